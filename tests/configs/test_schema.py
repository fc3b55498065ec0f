from __future__ import annotations

import pytest
from pydantic import ValidationError

from edgeproof_configs.schema import AugmentConfig, TrainConfig


def test_augment_config__active_only_where_something_changes() -> None:
    assert not AugmentConfig().active
    assert not AugmentConfig(flip=0.0).active
    assert AugmentConfig(flip=0.5).active


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"random_resized_crop": (0.5, 0.4)}, "smallest <= largest"),
        ({"random_resized_crop": (0.0, 0.4)}, "0 < smallest"),
        ({"random_resized_crop": (0.5, 1.0), "shift_pixels": 2}, "has no effect beside random_resized_crop"),
        ({"flip": 1.5}, "less than or equal to 1"),
        ({"flop": 0.5}, "Extra inputs"),
    ],
)
def test_augment_config__refused(settings: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        AugmentConfig.model_validate(settings)


def test_train_config__warm_up_must_end() -> None:
    with pytest.raises(ValidationError, match=r"warmup_epochs must be below epochs \(1\)"):
        TrainConfig(epochs=1)
    assert TrainConfig(epochs=1, warmup_epochs=0).warmup_epochs == 0


def test_train_config__frozen() -> None:
    config = TrainConfig(epochs=3)
    with pytest.raises(ValidationError, match="frozen"):
        config.epochs = 4
