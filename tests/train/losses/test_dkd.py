from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from edgeproof_configs.errors import UsageError
from edgeproof_configs.registry import component_class
from edgeproof_train.loss import Loss, LossContext
from edgeproof_train.outputs import Mix

LABEL = torch.tensor([0, 1, 7, 2, 5, 0])


def test_forward__by_hand(make_loss: Callable[..., Loss], value: Any) -> None:
    # p_t = (.6, .3, .1), z_s = 0, label 0.
    teacher = torch.tensor([[0.6, 0.3, 0.1]]).log()
    given = torch.zeros(1, 3), teacher, torch.tensor([0])
    context = LossContext(3, 3, 3)
    own = make_loss("dkd", context, alpha=1.0, beta=0.0, temperature=1.0)
    others = make_loss("dkd", context, alpha=0.0, beta=1.0, temperature=1.0)
    assert value(own, *given).item() == pytest.approx(0.148342, abs=1e-6)
    assert value(others, *given).item() == pytest.approx(0.130812, abs=1e-6)
    plain = make_loss("soft_target", context, temperature=1.0)
    assert value(plain, *given).item() == pytest.approx(0.200667, abs=1e-6)


def test_forward__the_parts_make_up_plain_soft_targets(
    make_loss: Callable[..., Loss], value: Any, student: Tensor, teacher: Tensor
) -> None:
    own = make_loss("dkd", alpha=1.0, beta=0.0, temperature=1.0)
    others = make_loss("dkd", alpha=0.0, beta=1.0, temperature=1.0)
    plain = make_loss("soft_target", temperature=1.0)
    for i, label in enumerate(LABEL):
        image = student[i : i + 1], teacher[i : i + 1], label[None]
        unsure = 1 - teacher[i].softmax(dim=0)[label]
        parts = value(own, *image) + unsure * value(others, *image)
        torch.testing.assert_close(parts, value(plain, *image))


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_forward__matches_numpy(
    temperature: float, make_loss: Callable[..., Loss], value: Any, student: Tensor, teacher: Tensor
) -> None:
    def parts(logits: Tensor, label: int) -> tuple[Any, Any]:
        powers = np.exp(logits.double().numpy() / temperature)
        own = powers[label] / powers.sum()
        rest = np.delete(powers, label)
        return np.array([own, 1 - own]), rest / rest.sum()

    total = 0.0
    for z_s, z_t, label in zip(student, teacher, LABEL.tolist(), strict=True):
        (own_s, rest_s), (own_t, rest_t) = parts(z_s, label), parts(z_t, label)
        total += 1.5 * (own_t * np.log(own_t / own_s)).sum() + 6 * (rest_t * np.log(rest_t / rest_s)).sum()
    loss = make_loss("dkd", alpha=1.5, beta=6.0, temperature=temperature)
    expected = temperature**2 * total / 6
    assert value(loss, student, teacher, LABEL).item() == pytest.approx(expected, rel=1e-5)


def test_forward__two_classes_have_no_others(make_loss: Callable[..., Loss], value: Any) -> None:
    loss = make_loss("dkd", LossContext(2, 2, 2), alpha=0.0, beta=1.0)
    student = torch.tensor([[1.0, -2.0], [0.5, 3.0]], requires_grad=True)
    result = value(loss, student, torch.tensor([[0.0, 4.0], [1.0, -1.0]]), torch.tensor([0, 1]))
    result.backward()
    assert result.item() == 0
    assert student.grad is not None
    assert not student.grad.any()


def test_forward__a_sure_student_of_a_doubting_teacher_is_told_so(
    make_loss: Callable[..., Loss], value: Any
) -> None:
    # log(1 - p_y) by way of p_y is -inf here; the others lie 2,000 below, log(1 - p_y) = -2000 + ln 2.
    student = torch.tensor([[2000.0, 0.0, 0.0]], requires_grad=True)
    loss = make_loss("dkd", LossContext(3, 3, 3), alpha=1.0, beta=0.0, temperature=1.0)
    result = value(loss, student, torch.tensor([[math.log(2), 0.0, 0.0]]), torch.tensor([0]))
    result.backward()
    expected = -math.log(2) + 0.5 * (2000 - math.log(2))
    assert result.item() == pytest.approx(expected, rel=1e-6)
    torch.testing.assert_close(student.grad, torch.tensor([[0.5, -0.25, -0.25]]))


def test_forward__unlabelled_images_are_left_out(
    make_loss: Callable[..., Loss], value: Any, student: Tensor, teacher: Tensor
) -> None:
    loss = make_loss("dkd")
    some = value(loss, student, teacher, torch.tensor([0, -1, 7, 2, -1, 0]))
    kept = [0, 2, 3, 5]
    torch.testing.assert_close(some, value(loss, student[kept], teacher[kept], LABEL[kept]))
    student.requires_grad_()
    none = value(loss, student, teacher, torch.full((6,), -1))
    none.backward()
    assert none.item() == 0
    assert student.grad is not None
    assert not student.grad.any()


def test_forward__mixed_images_are_refused(
    make_loss: Callable[..., Loss], value: Any, student: Tensor, teacher: Tensor
) -> None:
    mix = Mix(LABEL.flip(0), torch.full((6,), 0.5))
    with pytest.raises(ValueError, match="no one label"):
        value(make_loss("dkd"), student, teacher, LABEL, mix=mix)
    assert make_loss("dkd").one_label


def test_config__both_weights_zero() -> None:
    component: Any = component_class("loss", "dkd")
    with pytest.raises(ValidationError, match="nothing would be compared"):
        component.Config(alpha=0, beta=0)


def test_build__labels_of_another_number_of_classes(make_loss: Callable[..., Loss]) -> None:
    with pytest.raises(UsageError, match=r"5 classes.*\(B, 8\)"):
        make_loss("dkd", LossContext(8, 8, 5, class_scores=True))
