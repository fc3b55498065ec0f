from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from edgeproof_configs.registry import component_class
from edgeproof_train.loss import Loss

KIND = "masked_generative"


def convolved(features: np.ndarray, weight: Tensor, bias: Tensor) -> np.ndarray:
    """A convolution with zero padding, written out in float64."""
    kernel, shift = weight.detach().double().numpy(), bias.detach().double().numpy()
    side = kernel.shape[2]
    edge = side // 2
    padded = np.pad(features, ((0, 0), (0, 0), (edge, edge), (edge, edge)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (side, side), axis=(2, 3))
    return np.einsum("bchwij,kcij->bkhw", windows, kernel) + shift[:, None, None]


@pytest.mark.parametrize("channels", [3, 5])
@pytest.mark.parametrize("mask", ["channel", "spatial"])
@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_forward__matches_the_formula_in_float64(
    channels: int, mask: str, reduction: str, feature_loss: Callable[..., Loss], of_maps: Any, maps: Any
) -> None:
    student, teacher = maps(1, 2, channels, 4, 4), maps(2, 2, 5, 4, 4)
    loss: Any = feature_loss(KIND, student, teacher, mask=mask, mask_ratio=0.5, reduction=reduction)
    torch.manual_seed(7)
    ours = of_maps(loss, student, teacher)
    torch.manual_seed(7)
    hidden = torch.rand((2, 5, 1, 1) if mask == "channel" else (2, 1, 4, 4)).numpy() < 0.5
    features = student.double().numpy()
    if channels != 5:
        features = convolved(features, loss.align[0].weight, loss.align[0].bias)
    first, second = loss.generators[0][0], loss.generators[0][2]
    inside = convolved(np.where(hidden, 0.0, features), first.weight, first.bias)
    restored = convolved(np.maximum(inside, 0), second.weight, second.bias)
    squares = (restored - teacher.double().numpy()) ** 2
    expected = squares.mean() if reduction == "mean" else squares.sum() / 2
    assert ours.item() == pytest.approx(expected, rel=1e-5)


def test_forward__the_mask_follows_the_seed(
    feature_loss: Callable[..., Loss], of_maps: Any, maps: Any
) -> None:
    student, teacher = maps(1, 4, 16, 4, 4), maps(2, 4, 16, 4, 4)
    loss = feature_loss(KIND, student, teacher, mask_ratio=0.5)
    torch.manual_seed(3)
    first, second = of_maps(loss, student, teacher), of_maps(loss, student, teacher)
    torch.manual_seed(3)
    assert of_maps(loss, student, teacher) == first
    assert of_maps(loss, student, teacher) == second
    assert first != second


@pytest.mark.parametrize("mask", ["channel", "spatial"])
def test_kept__hides_as_often_as_said(mask: str, feature_loss: Callable[..., Loss], maps: Any) -> None:
    features = maps(1, 64, 64, 8, 8)
    loss: Any = feature_loss(KIND, features, features, mask=mask, mask_ratio=0.65)
    torch.manual_seed(0)
    kept = loss.kept(features)
    assert kept.shape == ((64, 64, 1, 1) if mask == "channel" else (64, 1, 8, 8))
    assert set(kept.unique().tolist()) == {0.0, 1.0}
    # 4,096 draws: three standard deviations are 0.022.
    assert kept.mean().item() == pytest.approx(0.35, abs=0.022)


def test_build__channels_are_aligned_only_where_they_differ(
    feature_loss: Callable[..., Loss], maps: Any
) -> None:
    same, other = maps(1, 2, 6, 4, 4), maps(1, 2, 5, 4, 4)
    assert not any("align" in name for name in feature_loss(KIND, same, same).state_dict())
    assert feature_loss(KIND, other, same).state_dict()["align.0.weight"].shape == (6, 5, 1, 1)


def test_config__a_mask_that_hides_nothing_is_refused() -> None:
    component: Any = component_class("loss", KIND)
    nodes = [{"student": "a", "teacher": "b"}]
    with pytest.raises(ValidationError, match="mask has no effect"):
        component.Config(nodes=nodes, mask="channel", mask_ratio=0)
    with pytest.raises(ValidationError, match="less than 1"):
        component.Config(nodes=nodes, mask_ratio=1)
