from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from edgeproof_configs.errors import UsageError
from edgeproof_configs.registry import component_class
from edgeproof_train.loss import Loss, LossContext


def test_forward__by_hand(make_loss: Callable[..., Loss], value: Any) -> None:
    # z_t = (2 ln 3, 0), z_s = (0, 0), T = 2: 4 (.75 ln 1.5 + .25 ln .5).
    loss = make_loss("soft_target", LossContext(2, 2), temperature=2.0)
    result = value(loss, torch.zeros(1, 2), torch.tensor([[2 * math.log(3), 0.0]]))
    assert result.item() == pytest.approx(0.523249, abs=1e-6)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_forward__matches_torchdistill(
    temperature: float, make_loss: Callable[..., Loss], value: Any, student: Tensor, teacher: Tensor
) -> None:
    # Without a label term theirs drops T^2.
    theirs = oracle("KDLoss", temperature)(student, teacher) * temperature**2
    loss = make_loss("soft_target", temperature=temperature)
    torch.testing.assert_close(value(loss, student, teacher), theirs)


def test_forward__standardised_matches_torchdistill(
    make_loss: Callable[..., Loss], value: Any, student: Tensor, teacher: Tensor
) -> None:
    theirs = oracle("LogitStdKDLoss", 2.0)(5 * student + 3, teacher) * 4
    loss = make_loss("soft_target", temperature=2.0, standardise=True)
    torch.testing.assert_close(value(loss, 5 * student + 3, teacher), theirs)


def test_forward__blind_to_a_shift_of_a_row_and_to_the_order_of_classes(
    make_loss: Callable[..., Loss], value: Any, student: Tensor, teacher: Tensor
) -> None:
    loss = make_loss("soft_target")
    expected = value(loss, student, teacher)
    shift = torch.linspace(-30, 30, 6)[:, None]
    torch.testing.assert_close(value(loss, student + shift, teacher - shift), expected, rtol=1e-4, atol=0)
    order = torch.tensor([3, 0, 7, 1, 6, 2, 5, 4])
    torch.testing.assert_close(value(loss, student[:, order], teacher[:, order]), expected)
    assert expected > 0


@pytest.mark.parametrize("kind", ["soft_target", "dkd", "dist"])
def test_forward__standardised_is_blind_to_scale_and_shift(
    kind: str, make_loss: Callable[..., Loss], value: Any, student: Tensor, teacher: Tensor
) -> None:
    loss, label = make_loss(kind, standardise=True), torch.tensor([0, 1, 2, 3, 4, -1])
    scale, shift = torch.linspace(0.5, 40, 6)[:, None], torch.linspace(-30, 30, 6)[:, None]
    expected = value(loss, student, teacher, label)
    moved = value(loss, scale * student + shift, teacher, label)
    torch.testing.assert_close(moved, expected, rtol=1e-4, atol=1e-6)
    plain = make_loss(kind)
    louder = value(plain, scale * student, teacher, label)
    assert not torch.allclose(louder, value(plain, student, teacher, label))


def test_forward__the_gradient_keeps_its_size_when_the_temperature_grows(
    make_loss: Callable[..., Loss], value: Any, student: Tensor, teacher: Tensor
) -> None:
    # For T far above the scores: (z_s - z_t, each less its mean) / K.
    student.requires_grad_()
    value(make_loss("soft_target", temperature=1000.0), student, teacher).backward()
    difference = (student - teacher).detach()
    expected = (difference - difference.mean(dim=1, keepdim=True)) / 8 / 6
    torch.testing.assert_close(student.grad, expected, rtol=1e-2, atol=1e-4)


@pytest.mark.parametrize("kind", ["soft_target", "dkd", "dist", "hard_distillation"])
def test_build__one_class_says_nothing(kind: str, make_loss: Callable[..., Loss]) -> None:
    with pytest.raises(UsageError, match="always has a probability of 1"):
        make_loss(kind, LossContext(1, 1, 1))


def test_config__a_temperature_is_above_zero() -> None:
    component: Any = component_class("loss", "soft_target")
    with pytest.raises(ValidationError, match="temperature"):
        component.Config(temperature=0)


def oracle(name: str, temperature: float) -> Callable[[Tensor, Tensor], Tensor]:
    """One of torchdistill's losses; its registry needs these three modules to be loaded before."""
    import torchvision.datasets
    import torchvision.models
    import torchvision.transforms  # noqa: F401
    from torchdistill.losses import mid_level

    loss = getattr(mid_level, name)("s", "o", "t", "o", temperature=temperature, alpha=0.5)
    return lambda student, teacher: loss({"s": {"o": student}}, {"t": {"o": teacher}})
