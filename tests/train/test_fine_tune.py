from __future__ import annotations

from edgeproof_configs.schema import TrainConfig
from edgeproof_train.fine_tune import tuning_config


def test_tuning_config__is_the_recipes_for_all_epochs() -> None:
    train = TrainConfig(
        epochs=40, lr=0.1, warmup_epochs=5.0, patience=3, select="top1", ema=True, batch_size=7, freeze=("a",)
    )
    config = tuning_config(train, 8, 0.01)
    assert config == train.model_copy(update={"epochs": 8, "lr": 0.01, "patience": None})
    assert tuning_config(train, 4, 0.01).warmup_epochs == 2.0
