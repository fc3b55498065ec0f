from __future__ import annotations

from typing import Any

import pytest
from tests.compress.small_students import make_student

from edgeproof_compress.eligibility import Layer, eligibility, ends_of
from edgeproof_configs.compress_schema import SparsityConfig
from edgeproof_configs.errors import UsageError


def layers(model: str = "cifar_resnet8", dim: int = 16, **settings: Any) -> dict[str, Layer]:
    found = eligibility(make_student(model, dim=dim), SparsityConfig.model_validate(settings))
    return {layer.name: layer for layer in found}


def test_eligibility__of_a_resnet() -> None:
    found = layers()
    assert [name for name, layer in found.items() if not layer.eligible] == ["backbone.conv1"]
    assert found["backbone.conv1"].reason == "3 input channels, not a multiple of 16"
    second = found["backbone.layer2.0.conv1"]
    assert (second.kind, second.shape, second.parameters) == ("Conv2d", (32, 16, 3, 3), 4608)
    assert found["head"].row() == {
        "name": "head",
        "kind": "Linear",
        "shape": [16, 64],
        "parameters": 1024,
        "reason": "",
        "eligible": True,
    }


def test_eligibility__of_grouped_and_odd_layers() -> None:
    found = layers("mobilenetv2_035", dim=12)
    assert {layer.reason for name, layer in found.items() if name.endswith("conv_dw")} == {"depthwise"}
    assert found["head"].reason == "12 output channels, not a multiple of 8"
    assert found["backbone.blocks.1.0.conv_pw"].reason == "8 input channels, not a multiple of 16"


def test_eligibility__of_standardised_weights() -> None:
    found = layers("test_nfnet")
    reasons = {layer.reason for layer in found.values() if layer.kind == "Conv2d"}
    assert "its weight is changed before it is used" in reasons


def test_eligibility__include_and_exclude() -> None:
    found = layers(include=["*.layer2.*", "head"], exclude=["*conv2"])
    assert [name for name, layer in found.items() if layer.eligible] == ["backbone.layer2.0.conv1", "head"]
    assert found["backbone.layer3.0.conv1"].reason == "not included"
    assert found["backbone.layer2.0.conv2"].reason == "excluded by name"


def test_ends_of__are_the_layers_at_both_ends() -> None:
    assert ends_of(make_student()) == {"stem": {"backbone.conv1"}, "head": {"head"}}
    vit = ends_of(make_student("test_vit", head="mlp"))
    assert vit == {"stem": {"backbone.patch_embed.proj"}, "head": {"head.2"}}


@pytest.mark.parametrize("key", ["include", "exclude"])
def test_eligibility__a_pattern_that_matches_nothing(key: str) -> None:
    settings: dict[str, Any] = {key: ["backbone.layer2.0.conv3"]}
    with pytest.raises(UsageError) as caught:
        layers(**settings)
    assert caught.value.exit_code == 2
    text = str(caught.value)
    assert "no layer matches 'backbone.layer2.0.conv3'. Did you mean 'backbone.layer2.0.conv" in text
    assert f"at: compress.sparsity.{key}" in text
    assert "backbone.conv1, backbone.layer1.0.conv1" in text


def test_eligibility__a_pattern_that_no_layer_can_take() -> None:
    with pytest.raises(UsageError, match=r"'stem' names can be 2:4: backbone\.conv1 \(3 input channels"):
        layers(include=["stem", "head"])


def test_eligibility__nothing_is_left() -> None:
    with pytest.raises(
        UsageError, match=r"nothing can be pruned: backbone\.conv1 \(excluded by name\)"
    ) as caught:
        layers(exclude=["*"])
    assert "and 5 more" in str(caught.value)
    assert len(caught.value.lines()) == 3
