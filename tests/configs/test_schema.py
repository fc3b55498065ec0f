from __future__ import annotations

import pytest
from pydantic import ValidationError

from edgeproof_configs.schema import AugmentConfig, DeployConfig, TrainConfig


def test_augment_config__active_only_where_something_changes() -> None:
    assert not AugmentConfig().active
    assert not AugmentConfig(flip=0.0).active
    assert AugmentConfig(flip=0.5).active
    assert AugmentConfig(policy="aug_mix").active
    assert AugmentConfig(cutout=0.2).active
    assert AugmentConfig(pad_pixels=4).active


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"random_resized_crop": (0.5, 0.4)}, "smallest <= largest"),
        ({"random_resized_crop": (0.0, 0.4)}, "0 < smallest"),
        ({"random_resized_crop": (0.5, 1.0), "shift_pixels": 2}, "has no effect beside random_resized_crop"),
        ({"random_resized_crop": (0.5, 1.0), "pad_pixels": 2}, "pad_pixels and random_resized_crop both say"),
        ({"shift_pixels": 2, "pad_pixels": 2}, "pad_pixels and shift_pixels both say where"),
        ({"pad_pixels": -1}, "greater than or equal to 0"),
        ({"flip": 1.5}, "less than or equal to 1"),
        ({"flop": 0.5}, "Extra inputs"),
        ({"policy": "fast_augment"}, "Input should be"),
        ({"policy_magnitude": 5}, "policy_magnitude has no effect without policy"),
        ({"policy": "auto_augment", "policy_magnitude": 5}, "policy_magnitude has no effect without policy"),
        ({"policy": "rand_augment", "policy_magnitude": 31}, "less than or equal to 30"),
        ({"policy": "aug_mix", "policy_magnitude": 11}, "aug_mix knows 1 to 10, got 11"),
        ({"policy": "aug_mix", "policy_magnitude": 0}, "aug_mix knows 1 to 10, got 0"),
        ({"policy": "aug_mix", "policy_operations": 2}, "policy_operations has no effect without policy"),
        ({"cutout": 1.0}, "less than 1"),
    ],
)
def test_augment_config__refused(settings: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        AugmentConfig.model_validate(settings)


def test_train_config__warm_up_must_end() -> None:
    with pytest.raises(ValidationError, match=r"warmup_epochs must be below epochs \(1\)"):
        TrainConfig(epochs=1)
    assert TrainConfig(epochs=1, warmup_epochs=0).warmup_epochs == 0


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"mix": {}}, "mixup and cutmix are both 0"),
        ({"mix": {"probability": 0.5}}, "mixup and cutmix are both 0"),
        ({"mix": {"mixup": 0.2, "probability": 0}}, "greater than 0"),
        ({"mix": {"mixup": float("inf")}}, "finite"),
        ({"mix": {"mixup": 0.2}, "batch_size": 1}, "no other image"),
        ({"balance": "images"}, "'none' or 'classes'"),
        ({"patience": 0}, "greater than 0"),
        ({"patience": 9}, "patience 9 has no effect: 10 epochs with eval_every 1 give 10 evaluations"),
        ({"patience": 3, "eval_every": 3}, "give 4 evaluations"),
    ],
)
def test_train_config__refused(settings: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        TrainConfig.model_validate({"epochs": 10} | settings)


def test_train_config__habits_that_have_an_effect() -> None:
    plain = {"epochs": 10, "eval_every": 3, "patience": 2, "mix": {"cutmix": 1.0}, "balance": "classes"}
    config = TrainConfig.model_validate(plain)
    assert config.mix is not None
    assert (config.mix.mixup, config.mix.cutmix, config.mix.probability) == (0.0, 1.0, 1.0)
    assert TrainConfig(epochs=10, patience=8).patience == 8


def test_train_config__frozen() -> None:
    config = TrainConfig(epochs=3)
    with pytest.raises(ValidationError, match="frozen"):
        config.epochs = 4


@pytest.mark.parametrize(
    ("given", "kept"),
    [("8.9", "8.9"), (8.9, "8.9"), (["8.6", 12.1], ("8.6", "12.1")), (("12.0",), ("12.0",))],
)
def test_deploy_config__one_or_several_compute_capabilities(given: object, kept: object) -> None:
    assert DeployConfig.model_validate({"compute_capability": given}).compute_capability == kept


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("8.7", r"expected one or several of 7\.5, .*12\.1, got 8\.7; for other GPUs, Jetson among them"),
        ([], "got none"),
        (["8.6", "9.0", "10.0"], r"got 9\.0, 10\.0"),
        (["7.5", "8.6"], r"7\.5 \(Turing\): TensorRT-RTX has no fp32 matrix products"),
    ],
)
def test_deploy_config__compute_capabilities_that_cannot_be_built_for(given: object, told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        DeployConfig.model_validate({"compute_capability": given})


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"precisions": ["fp16"]}, "must name fp32"),
        ({"precisions": ["fp32", "fp16"], "engines": ["pytorch"]}, "none of the engines reads"),
    ],
)
def test_deploy_config__precisions_that_cannot_be_judged(settings: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        DeployConfig.model_validate(settings)
    assert DeployConfig.model_validate(settings | {"precisions": ["fp32"]}).precisions == ["fp32"]
