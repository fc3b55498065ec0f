from __future__ import annotations

import pytest
from torch import nn

from edgeproof_configs.errors import UsageError
from edgeproof_train.freeze import frozen_parts, rest


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
