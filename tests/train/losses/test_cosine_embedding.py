from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from edgeproof_train.loss import Loss


def test_forward__by_hand(make_loss: Callable[..., Loss], value: Any) -> None:
    # cosines: 3/5 and -1
    student = torch.tensor([[3.0, 4.0] + [0.0] * 6, [2.0, 0.0] + [0.0] * 6])
    teacher = torch.tensor([[7.0, 0.0] + [0.0] * 6, [-1.0, 0.0] + [0.0] * 6])
    assert value(make_loss("cosine_embedding"), student, teacher).item() == pytest.approx((0.4 + 2) / 2)


def test_forward__blind_to_length_and_rotation(
    make_loss: Callable[..., Loss], value: Any, student: Tensor, teacher: Tensor
) -> None:
    loss = make_loss("cosine_embedding")
    turn = torch.linalg.qr(torch.randn(8, 8, generator=torch.Generator().manual_seed(5)))[0]
    expected = value(loss, student, teacher)
    torch.testing.assert_close(value(loss, 300 * student, 0.01 * teacher), expected)
    torch.testing.assert_close(value(loss, student @ turn, teacher @ turn), expected)


def test_forward__a_zero_vector_has_a_finite_gradient(
    make_loss: Callable[..., Loss], value: Any, teacher: Tensor
) -> None:
    student = torch.zeros(6, 8, requires_grad=True)
    loss = value(make_loss("cosine_embedding"), student, teacher)
    loss.backward()
    assert loss.item() == pytest.approx(1)
    assert student.grad is not None
    assert student.grad.isfinite().all()
