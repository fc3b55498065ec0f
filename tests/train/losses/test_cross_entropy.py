from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from edgeproof_configs.errors import UsageError
from edgeproof_configs.registry import component_class
from edgeproof_train.loss import Loss, LossContext
from edgeproof_train.outputs import Mix

LABEL = torch.tensor([0, 3, -1, 2, 1, 7])
KINDS = ["cross_entropy", "focal", "poly"]


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_forward__matches_torch(
    smoothing: float, make_loss: Callable[..., Loss], value: Any, student: Tensor
) -> None:
    oracle = nn.CrossEntropyLoss(label_smoothing=smoothing, ignore_index=-1)(student, LABEL)
    loss = make_loss("cross_entropy", label_smoothing=smoothing)
    torch.testing.assert_close(value(loss, student, label=LABEL), oracle)


def test_forward__mixed_as_two_losses(make_loss: Callable[..., Loss], value: Any, student: Tensor) -> None:
    label, partner = torch.tensor([0, 3, 5, 2, 1, 7]), torch.tensor([4, 3, 0, 1, 6, 2])
    share = torch.tensor([1.0, 0.3, 0.0, 0.75, 0.5, 0.9])
    torch_loss = nn.CrossEntropyLoss(label_smoothing=0.1, reduction="none")
    oracle = (share * torch_loss(student, label) + (1 - share) * torch_loss(student, partner)).mean()
    loss = make_loss("cross_entropy", label_smoothing=0.1)
    torch.testing.assert_close(value(loss, student, label=label, mix=Mix(partner, share)), oracle)


@pytest.mark.parametrize("kind", KINDS)
def test_forward__mixed_is_linear_in_the_share(
    kind: str, make_loss: Callable[..., Loss], value: Any, student: Tensor
) -> None:
    label, partner = torch.tensor([0, 3, 5, 2, 1, 7]), torch.tensor([4, 3, 0, 1, 6, 2])
    loss = make_loss(kind, label_smoothing=0.1)
    mixed = value(loss, student, label=label, mix=Mix(partner, torch.full((6,), 0.3)))
    apart = 0.3 * value(loss, student, label=label) + 0.7 * value(loss, student, label=partner)
    torch.testing.assert_close(mixed, apart)


@pytest.mark.parametrize("kind", KINDS)
def test_forward__an_image_with_an_unknown_part_is_left_out(
    kind: str, make_loss: Callable[..., Loss], value: Any, student: Tensor
) -> None:
    # Own label unknown; partner unknown; partner unknown but not mixed in; own unknown but not there.
    label, partner = torch.tensor([-1, 2, 3, -1, 4, 5]), torch.tensor([1, -1, -1, 6, 0, 1])
    share = torch.tensor([0.5, 0.5, 1.0, 0.0, 0.5, 0.5])
    kept = [2, 3, 4, 5]
    some = Mix(partner[kept].clamp_min(0), share[kept])
    loss = make_loss(kind)
    torch.testing.assert_close(
        value(loss, student, label=label, mix=Mix(partner, share)),
        value(loss, student[kept], label=label[kept].clamp_min(0), mix=some),
    )


@pytest.mark.parametrize("kind", KINDS)
def test_forward__nothing_labelled_is_zero_with_a_gradient(
    kind: str, make_loss: Callable[..., Loss], value: Any, student: Tensor
) -> None:
    student.requires_grad_()
    loss = value(make_loss(kind), student, label=torch.full((6,), -1))
    loss.backward()
    assert loss.item() == 0
    assert student.grad is not None
    assert not student.grad.any()


@pytest.mark.parametrize("kind", KINDS)
def test_forward__renaming_the_classes_changes_nothing(
    kind: str, make_loss: Callable[..., Loss], value: Any, student: Tensor
) -> None:
    order = torch.tensor([3, 0, 7, 1, 6, 2, 5, 4])
    label = torch.tensor([0, 3, 5, 2, 1, 7])
    loss = make_loss(kind, label_smoothing=0.1)
    renamed = value(loss, student[:, order], label=order.argsort()[label])
    torch.testing.assert_close(renamed, value(loss, student + 9, label=label))


@pytest.mark.parametrize("kind", KINDS)
def test_build__labels_of_another_number_of_classes(kind: str, make_loss: Callable[..., Loss]) -> None:
    context = LossContext(8, 8, 5, class_scores=True)
    with pytest.raises(UsageError, match=r"5 classes.*\(B, 8\)"):
        make_loss(kind, context)


def test_config__smoothing_is_a_share() -> None:
    component: Any = component_class("loss", "cross_entropy")
    with pytest.raises(ValidationError, match="label_smoothing"):
        component.Config(label_smoothing=1.5)


@pytest.mark.parametrize("kind", ["focal", "poly"])
def test_forward__plain_cross_entropy_at_zero(
    kind: str, make_loss: Callable[..., Loss], value: Any, student: Tensor
) -> None:
    setting = {"focal": "gamma", "poly": "epsilon"}[kind]
    loss = make_loss(kind, **{setting: 0.0}, label_smoothing=0.2)
    plain = make_loss("cross_entropy", label_smoothing=0.2)
    torch.testing.assert_close(value(loss, student, label=LABEL), value(plain, student, label=LABEL))
