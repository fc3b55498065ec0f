from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from edgeproof_configs.registry import component_class
from edgeproof_train.loss import Loss, LossContext


@pytest.mark.parametrize(("beta", "gamma", "tau"), [(1.0, 1.0, 1.0), (2.0, 0.5, 4.0), (0.0, 1.0, 1.0)])
def test_forward__matches_torchdistill(
    beta: float,
    gamma: float,
    tau: float,
    make_loss: Callable[..., Loss],
    value: Any,
    student: Tensor,
    teacher: Tensor,
) -> None:
    theirs = oracle()("s", "o", "t", "o", beta=beta, gamma=gamma, tau=tau)
    expected = theirs({"s": {"o": student}}, {"t": {"o": teacher}})
    loss = make_loss("dist", beta=beta, gamma=gamma, tau=tau)
    torch.testing.assert_close(value(loss, student, teacher), expected, rtol=1e-5, atol=1e-6)


def test_forward__matches_numpy(
    make_loss: Callable[..., Loss], value: Any, student: Tensor, teacher: Tensor
) -> None:
    p_s, p_t = (np.exp(z.double().numpy()) for z in (student, teacher))
    p_s, p_t = (p / p.sum(axis=1, keepdims=True) for p in (p_s, p_t))
    over_classes = np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(p_s, p_t, strict=True)])
    over_images = np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(p_s.T, p_t.T, strict=True)])
    expected = (1 - over_classes) + 3 * (1 - over_images)
    loss = make_loss("dist", gamma=3.0)
    assert value(loss, student, teacher).item() == pytest.approx(expected, rel=1e-5)


def test_forward__by_hand(make_loss: Callable[..., Loss], value: Any) -> None:
    # Classes of both images in the teacher's order, the other way round in one of two: 1 - (1 - 1) / 2.
    teacher = torch.tensor([[0.7, 0.3], [0.4, 0.6]]).log()
    student = torch.tensor([[0.9, 0.1], [0.8, 0.2]]).log()
    loss = make_loss("dist", LossContext(2, 2), gamma=0.0)
    assert value(loss, student, teacher).item() == pytest.approx(1, abs=1e-6)


def test_forward__blind_to_affine_changes_of_the_probabilities(
    make_loss: Callable[..., Loss], value: Any, student: Tensor, teacher: Tensor
) -> None:
    # Mixed with the even distribution: a p + b in each row, and in each column.
    flatter = (0.3 * student.softmax(dim=1) + 0.7 / 8).log()
    loss = make_loss("dist")
    torch.testing.assert_close(
        value(loss, flatter, teacher), value(loss, student, teacher), rtol=1e-4, atol=0
    )


def test_forward__one_image_has_no_relation_to_others(
    make_loss: Callable[..., Loss], value: Any, student: Tensor, teacher: Tensor
) -> None:
    with pytest.raises(ValueError, match="batch of 1 image"):
        value(make_loss("dist"), student[:1], teacher[:1])
    assert value(make_loss("dist", gamma=0.0), student[:1], teacher[:1]).isfinite()
    assert make_loss("dist").depends_on_batch


@pytest.mark.parametrize("level", [0.0, 0.1, 1e4])
def test_forward__a_student_that_says_the_same_of_all_has_no_gradient(
    level: float, make_loss: Callable[..., Loss], value: Any, teacher: Tensor
) -> None:
    student = torch.full((6, 8), level, requires_grad=True)
    loss = value(make_loss("dist"), student, teacher)
    loss.backward()
    assert loss.item() == 2
    assert student.grad is not None
    assert not student.grad.any()


def test_config__both_weights_zero() -> None:
    component: Any = component_class("loss", "dist")
    with pytest.raises(ValidationError, match="nothing would be compared"):
        component.Config(beta=0, gamma=0)


def oracle() -> Any:
    """torchdistill's DIST; its registry needs these three modules to be loaded before."""
    import torchvision.datasets
    import torchvision.models
    import torchvision.transforms  # noqa: F401
    from torchdistill.losses.mid_level import DISTLoss

    return DISTLoss
