from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from edgeproof_train.loss import Loss, LossContext

LABEL = torch.tensor([0, 3, -1, 2, 1, 7])
KNOWN = LABEL >= 0


def test_forward__matches_numpy(make_loss: Callable[..., Loss], value: Any, student: Tensor) -> None:
    scores = student.double().numpy()[KNOWN]
    likely = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    own = likely[np.arange(5), LABEL[KNOWN]]
    expected = ((1 - own) ** 2.5 * -np.log(own)).mean()
    loss = make_loss("focal", gamma=2.5)
    assert value(loss, student, label=LABEL).item() == pytest.approx(expected, rel=1e-6)


def test_forward__by_hand(make_loss: Callable[..., Loss], value: Any) -> None:
    # Probabilities .9 and .1, label the first: (1 - .9)^2 of the cross entropy.
    scores = torch.tensor([[0.9, 0.1]]).log()
    loss = make_loss("focal", LossContext(2, 2, 2))
    expected = 0.01 * -np.log(0.9)
    assert value(loss, scores, label=torch.tensor([0])).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_forward__of_a_sure_student_has_a_finite_gradient(
    gamma: float, make_loss: Callable[..., Loss], value: Any
) -> None:
    student = torch.zeros(2, 8)
    student[:, 0] = 1e4
    student.requires_grad_()
    loss = value(make_loss("focal", gamma=gamma), student, label=torch.tensor([0, 1]))
    loss.backward()
    assert loss.item() == pytest.approx(5e3)
    assert student.grad is not None
    assert student.grad.isfinite().all()
    assert student.grad.abs().sum() > 0
