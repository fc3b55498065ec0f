from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from edgeproof_configs.errors import UsageError
from edgeproof_train.loss import Loss, LossContext, check_needs


def test_forward__by_hand(make_loss: Callable[..., Loss], value: Any) -> None:
    # p_1 = (.75, .25), p_2 = (.5, .5): half of (.75 - .5) ln 1.5 + (.25 - .5) ln .5.
    first, second = torch.tensor([[math.log(3), 0.0]]), torch.zeros(1, 2)
    expected = 0.5 * (0.25 * math.log(1.5) - 0.25 * math.log(0.5))
    assert value(make_loss("r_drop"), first, second=second).item() == pytest.approx(expected, rel=1e-6)


def test_forward__matches_torch(
    make_loss: Callable[..., Loss], value: Any, student: Tensor, teacher: Tensor
) -> None:
    one, two = F.log_softmax(student, dim=1), F.log_softmax(teacher, dim=1)
    both = F.kl_div(one, two.exp(), reduction="batchmean") + F.kl_div(two, one.exp(), reduction="batchmean")
    torch.testing.assert_close(value(make_loss("r_drop"), student, second=teacher), both / 2)


def test_forward__symmetric_zero_at_equality_and_blind_to_shift_and_doubling(
    make_loss: Callable[..., Loss], value: Any, student: Tensor, teacher: Tensor
) -> None:
    loss = make_loss("r_drop")
    expected = value(loss, student, second=teacher)
    torch.testing.assert_close(value(loss, teacher, second=student), expected)
    torch.testing.assert_close(value(loss, student + 3, second=teacher - 2), expected, rtol=1e-5, atol=0)
    twice = value(loss, student.repeat(2, 1), second=teacher.repeat(2, 1))
    torch.testing.assert_close(twice, expected)
    assert value(loss, student, second=student.clone()).item() == 0
    assert expected > 0


def test_forward__gradcheck_through_both_passes(
    make_loss: Callable[..., Loss], value: Any, student: Tensor, teacher: Tensor
) -> None:
    loss = make_loss("r_drop")
    given = student.double().requires_grad_(), teacher.double().requires_grad_()
    assert torch.autograd.gradcheck(lambda one, two: value(loss, one, second=two), given)
    value(loss, *given[:1], second=given[1]).backward()
    for scores in given:
        assert scores.grad is not None
        assert scores.grad.abs().sum() > 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_forward__huge_class_scores(dtype: torch.dtype, make_loss: Callable[..., Loss], value: Any) -> None:
    first, second = torch.zeros(2, 8, dtype=dtype), torch.zeros(2, 8, dtype=dtype)
    first[:, 0], second[0, 0], second[1, 1] = 1e4, 1e4, 1e4
    first.requires_grad_()
    result = value(make_loss("r_drop"), first, second=second)
    result.backward()
    assert result.dtype == torch.float32
    # The second image: half of 1 (10,000) + 1 (10,000), over two images.
    assert result.item() == pytest.approx(float(first.detach()[0, 0]) / 2)
    assert first.grad is not None
    assert first.grad.isfinite().all()


def test_needs__class_scores(make_loss: Callable[..., Loss]) -> None:
    loss = make_loss("r_drop")
    with pytest.raises(UsageError, match=r"r_drop needs student\.logits"):
        check_needs({"r_drop": loss.needs}, LossContext(8, 8))
    check_needs({"r_drop": loss.needs}, LossContext(8, class_scores=True))
    assert loss.config.weight == 0.3
