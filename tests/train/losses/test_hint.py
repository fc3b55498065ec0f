from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch.nn import functional as F

from edgeproof_configs.errors import UsageError
from edgeproof_configs.registry import component_class
from edgeproof_train.loss import Loss

KIND = "hint"


def test_forward__by_hand(feature_loss: Callable[..., Loss], of_maps: Any) -> None:
    # The regressor 2 x + 1 turns (1, 3) into (3, 7): off the teacher's (3, 4) by 0 and 3.
    student, teacher = torch.tensor([[[[1.0, 3.0]]]]), torch.tensor([[[[3.0, 4.0]]]])
    square: Any = feature_loss(KIND, student, teacher)
    huber: Any = feature_loss(KIND, student, teacher, distance="huber", delta=2.0)
    for loss in (square, huber):
        torch.nn.init.constant_(loss.regressors[0].weight, 2)
        torch.nn.init.constant_(loss.regressors[0].bias, 1)
    assert of_maps(square, student, teacher).item() == pytest.approx(9 / 2)
    assert of_maps(huber, student, teacher).item() == pytest.approx(2 * (3 - 2 / 2) / 2)


def test_forward__without_a_regressor_equal_maps_are_at_zero(
    feature_loss: Callable[..., Loss], of_maps: Any, maps: Any
) -> None:
    student, teacher = maps(1, 4, 3, 5, 5), maps(2, 4, 3, 5, 5)
    loss = feature_loss(KIND, student, teacher, regressor="none")
    assert of_maps(loss, teacher.clone(), teacher).item() == 0
    torch.testing.assert_close(of_maps(loss, student, teacher), F.mse_loss(student, teacher))


def test_forward__batch_norm_makes_it_blind_to_the_scale_of_the_student(
    feature_loss: Callable[..., Loss], of_maps: Any, maps: Any
) -> None:
    student, teacher = maps(1, 4, 3, 5, 5), maps(2, 4, 6, 5, 5)
    loss = feature_loss(KIND, student, teacher, regressor="conv_bn")
    expected = of_maps(loss, student, teacher)
    torch.testing.assert_close(of_maps(loss, 9 * student, teacher), expected, rtol=1e-4, atol=1e-6)
    assert "regressors.0.1.running_mean" in loss.state_dict()


def test_build__other_channels_without_a_regressor_are_refused(feature_loss: Callable[..., Loss]) -> None:
    student, teacher = torch.zeros(2, 3, 8, 8), torch.zeros(2, 6, 4, 4)
    with pytest.raises(UsageError, match=r"\(B, 3, 8, 8\) at 's'.*\(B, 6, 4, 4\) at 't'[^$]*regressor: conv"):
        feature_loss(KIND, student, teacher, regressor="none")


def test_config__delta_without_huber_has_no_effect() -> None:
    component: Any = component_class("loss", KIND)
    with pytest.raises(ValidationError, match="delta has no effect"):
        component.Config(nodes=[{"student": "a", "teacher": "b"}], delta=2.0)
