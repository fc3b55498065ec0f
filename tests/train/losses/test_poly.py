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

LABEL = torch.tensor([0, 3, -1, 2, 1, 7])
KNOWN = LABEL >= 0


def test_forward__matches_numpy(make_loss: Callable[..., Loss], value: Any, student: Tensor) -> None:
    scores = student.double().numpy()[KNOWN]
    likely = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    target = np.full((5, 8), 0.1 / 8)
    target[np.arange(5), LABEL[KNOWN]] += 0.9
    expected = ((target * -np.log(likely)).sum(axis=1) + 2 * (1 - (target * likely).sum(axis=1))).mean()
    loss = make_loss("poly", epsilon=2.0, label_smoothing=0.1)
    assert value(loss, student, label=LABEL).item() == pytest.approx(expected, rel=1e-6)


def test_forward__by_hand(make_loss: Callable[..., Loss], value: Any) -> None:
    # Two classes at one half: ln 2 + 1 (1 - 1/2).
    loss = make_loss("poly", LossContext(2, 2, 2))
    half = value(loss, torch.zeros(1, 2), label=torch.tensor([1]))
    assert half.item() == pytest.approx(np.log(2) + 0.5, rel=1e-6)


def test_config__below_minus_one_would_reward_misses() -> None:
    component: Any = component_class("loss", "poly")
    with pytest.raises(ValidationError, match="epsilon"):
        component.Config(epsilon=-1.5)
