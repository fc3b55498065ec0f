from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edgeproof_train.loss import Loss


def test_forward__matches_torch(
    make_loss: Callable[..., Loss], value: Any, student: Tensor, teacher: Tensor
) -> None:
    expected = nn.CrossEntropyLoss()(student, teacher.argmax(dim=1))
    torch.testing.assert_close(value(make_loss("hard_distillation"), student, teacher), expected)


def test_forward__only_the_teachers_decision_counts(
    make_loss: Callable[..., Loss], value: Any, student: Tensor, teacher: Tensor
) -> None:
    loss = make_loss("hard_distillation")
    sharper = value(loss, student, 30 * teacher + 5)
    assert sharper.item() == pytest.approx(value(loss, student, teacher).item(), rel=1e-7)
    assert value(loss, 100 * teacher, teacher).item() == pytest.approx(0, abs=1e-2)
    assert value(loss, teacher, teacher).item() > 0.1
