from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from edgeproof_configs.errors import UsageError
from edgeproof_configs.schema import TrainConfig
from edgeproof_train.freeze import frozen_parts, rest

LAYERS = ("0.weight", "0.bias", "1.weight", "1.bias")


def student() -> nn.Module:
    blocks = nn.ModuleDict({"0": nn.Conv2d(3, 4, 1), "1": nn.BatchNorm2d(4)})
    return nn.ModuleDict({"backbone": blocks, "head": nn.Linear(4, 2)})


def test_frozen_parts__takes_out_only_what_is_named() -> None:
    model = student()
    parts = frozen_parts(model, ["backbone.0"])
    assert parts == [model.get_submodule("backbone.0")]
    assert {name for name, p in model.named_parameters() if not p.requires_grad} == {
        "backbone.0.weight",
        "backbone.0.bias",
    }


def test_frozen_parts__a_wrong_name_lists_the_right_ones() -> None:
    with pytest.raises(UsageError, match=r"no part 'backbone\.2'") as caught:
        frozen_parts(student(), ["backbone.2"])
    assert "backbone.0, backbone.1" in str(caught.value)
    with pytest.raises(UsageError, match="head"):
        frozen_parts(student(), ["bakbone"])


def test_rest__survives_train_mode() -> None:
    model = student()
    parts = frozen_parts(model, ["backbone"])
    model.train()
    rest(parts)
    assert not model.get_submodule("backbone.1").training
    assert model.get_submodule("head").training


def deeper() -> nn.Module:
    blocks = nn.ModuleDict({str(n): nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)) for n in range(3)})
    return nn.ModuleDict({"backbone": nn.ModuleDict({"blocks": blocks, "stem": nn.Linear(2, 4)})})


def test_frozen_parts__but_for_what_is_named() -> None:
    model = deeper()
    model.register_parameter("position", nn.Parameter(torch.zeros(1)))
    model.get_submodule("backbone").register_parameter("token", nn.Parameter(torch.zeros(1)))
    parts = frozen_parts(model, ["backbone"], ["backbone.blocks.2"])
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained == {"position", *(f"backbone.blocks.2.{name}" for name in LAYERS)}
    model.train()
    rest(parts)
    resting = {name for name, module in model.named_modules() if not module.training}
    assert not any(name.startswith("backbone.blocks.2") for name in resting)
    assert {"backbone.stem", "backbone.blocks.0.1", "backbone.blocks.1"} <= resting


def test_frozen_parts__an_exception_that_is_not_there() -> None:
    with pytest.raises(UsageError, match=r"no part 'backbone\.blocks\.7'") as caught:
        frozen_parts(deeper(), ["backbone"], ["backbone.blocks.7"])
    assert "freeze_except" in str(caught.value)


def test_freeze_except__lies_in_what_is_frozen() -> None:
    with pytest.raises(ValidationError, match="lies in no part that freeze names"):
        TrainConfig(epochs=2, freeze=("backbone.blocks.0",), freeze_except=("backbone.blocks.1",))
    TrainConfig(epochs=2, freeze=("backbone",), freeze_except=("backbone.blocks.1",))
