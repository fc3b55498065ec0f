from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from edgeproof_train.loss import Loss


def test_forward__raw_by_hand(make_loss: Callable[..., Loss], value: Any) -> None:
    student = torch.tensor([[1.0, 2, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0, 3]])
    teacher = torch.tensor([[0.0, 0, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0, 1]])
    loss = make_loss("mse_embedding", normalise=False)
    assert value(loss, student, teacher).item() == pytest.approx((1 + 4 + 4) / 16)


def test_forward__normalised_is_the_cosine_loss_times_two_over_width(
    make_loss: Callable[..., Loss], value: Any, student: Tensor, teacher: Tensor
) -> None:
    cosine = value(make_loss("cosine_embedding"), student, teacher)
    torch.testing.assert_close(value(make_loss("mse_embedding"), student, teacher), 2 * cosine / 8)


def test_forward__length_counts_only_when_raw(
    make_loss: Callable[..., Loss], value: Any, student: Tensor, teacher: Tensor
) -> None:
    unit, raw = make_loss("mse_embedding", normalise=True), make_loss("mse_embedding", normalise=False)
    torch.testing.assert_close(value(unit, 7 * student, teacher), value(unit, student, teacher))
    torch.testing.assert_close(value(raw, 7 * student, 7 * teacher), 49 * value(raw, student, teacher))
