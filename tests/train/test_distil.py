from __future__ import annotations

from typing import Any

import pytest

from edgeproof_configs.schema import BaselineConfig, TrainConfig
from edgeproof_train.distil import baseline_config


def shortened(epochs: int, lr: float | None = None, **train: Any) -> TrainConfig:
    plain = {"epochs": 40, "lr": 0.1, "warmup_epochs": 5.0}
    return baseline_config(TrainConfig(**plain | train), BaselineConfig(epochs=epochs, lr=lr))


def test_baseline_config__other_epochs_and_else_the_recipe() -> None:
    config = shortened(20, batch_size=7, select="top1")
    assert config == TrainConfig(epochs=20, lr=0.1, warmup_epochs=5.0, batch_size=7)
    assert shortened(20, lr=0.02).lr == 0.02


@pytest.mark.parametrize(("epochs", "warmup"), [(6, 5.0), (5, 2.5), (1, 0.5)])
def test_baseline_config__a_warmup_that_does_not_fit_takes_half(epochs: int, warmup: float) -> None:
    assert shortened(epochs).warmup_epochs == warmup


@pytest.mark.parametrize(
    ("epochs", "every", "patience"), [(7, 1, 5), (6, 1, None), (13, 2, 5), (12, 2, None)]
)
def test_baseline_config__patience_that_cannot_end_it_is_left_out(
    epochs: int, every: int, patience: int | None
) -> None:
    assert shortened(epochs, patience=5, eval_every=every).patience == patience
