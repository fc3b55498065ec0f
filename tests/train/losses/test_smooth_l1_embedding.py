from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from edgeproof_train.loss import Loss


def test_forward__by_hand(make_loss: Callable[..., Loss], value: Any) -> None:
    # differences 1 (below beta: 1 / 4) and 5 (above: 5 - 1), the other six are 0
    student = torch.tensor([[1.0, -5.0, 0, 0, 0, 0, 0, 0]])
    loss = make_loss("smooth_l1_embedding", beta=2.0)
    assert value(loss, student, torch.zeros(1, 8)).item() == pytest.approx((0.25 + 4) / 8)


def test_forward__a_small_difference_is_half_the_square(
    make_loss: Callable[..., Loss], value: Any, student: Tensor, teacher: Tensor
) -> None:
    smooth = value(make_loss("smooth_l1_embedding", beta=100.0), student, teacher)
    squared = value(make_loss("mse_embedding", normalise=False), student, teacher)
    torch.testing.assert_close(smooth, squared / 200)


def test_forward__normalised_is_blind_to_length(
    make_loss: Callable[..., Loss], value: Any, student: Tensor, teacher: Tensor
) -> None:
    loss = make_loss("smooth_l1_embedding", normalise=True)
    torch.testing.assert_close(value(loss, 9 * student, teacher), value(loss, student, 3 * teacher))
