from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.nn import functional as F

from edgeproof_configs.errors import UsageError
from edgeproof_train.loss import Loss, LossContext
from edgeproof_train.losses.multi_teacher import SMALLEST_SPREAD, MultiTeacher
from edgeproof_train.outputs import ModelOutputs, StepOutputs

WIDTHS = (8, 3)
TWO = LossContext(8, 11, parts=WIDTHS, part_weights=(0.75, 0.25))


def rows(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def build(make_loss: Callable[..., Loss], context: LossContext = TWO, **settings: float) -> MultiTeacher:
    loss = make_loss("multi_teacher", context, **settings)
    assert isinstance(loss, MultiTeacher)
    return loss


def test_build__projectors_to_all_but_the_space_of_the_student(make_loss: Callable[..., Loss]) -> None:
    loss = build(make_loss)
    assert [type(one) for one in loss.projectors] == [nn.Identity, nn.Linear]
    assert {name: tuple(value.shape) for name, value in loss.named_parameters()} == {
        "projectors.1.weight": (3, 8),
        "projectors.1.bias": (3,),
    }
    whole = build(make_loss, LossContext(11, 11, parts=WIDTHS, part_weights=(0.5, 0.5)))
    assert not list(whole.parameters())
    twins = build(make_loss, LossContext(8, 16, parts=(8, 8), part_weights=(0.5, 0.5)))
    assert [type(one) for one in twins.projectors] == [nn.Identity, nn.Linear]


def test_forward__by_hand(make_loss: Callable[..., Loss], value: Any) -> None:
    # e_s = (3, 4), t = (0, 1) twice: cosine .8; the values never change, so sigma is its floor.
    loss = build(make_loss, LossContext(2, 2), cosine=0.5, smooth_l1=0.5, beta=100.0)
    spread = SMALLEST_SPREAD / math.sqrt(2)
    squares = ((0.6 / spread) ** 2 + (0.2 / spread) ** 2) / 2
    expected = 0.5 * 0.2 + 0.5 * squares / (2 * 100)
    found = value(loss, torch.tensor([[3.0, 4.0]] * 2), torch.tensor([[0.0, 7.0]] * 2))
    assert found.item() == pytest.approx(expected, rel=1e-5)


def test_forward__is_the_weighted_sum_over_the_teachers(make_loss: Callable[..., Loss], value: Any) -> None:
    student, teacher = rows(1, 6, 8), rows(2, 6, 11)
    loss = build(make_loss)
    terms = []
    for project, part in zip(loss.projectors, teacher.split(WIDTHS, dim=1), strict=True):
        mine, theirs = F.normalize(project(student)), F.normalize(part)
        floor = SMALLEST_SPREAD**2 / part.shape[1]
        spread = (theirs.var(dim=0, correction=0) + floor).sqrt()
        cosine = 1 - F.cosine_similarity(mine, theirs).mean()
        terms.append(0.9 * cosine + 0.1 * F.smooth_l1_loss(mine / spread, theirs / spread))
    torch.testing.assert_close(value(loss, student, teacher), 0.75 * terms[0] + 0.25 * terms[1])
    torch.testing.assert_close(value(loss, student, teacher), 0.75 * terms[0] + 0.25 * terms[1])
    told = loss.epoch_figures()
    assert told == pytest.approx({"teacher_1": terms[0].item(), "teacher_2": terms[1].item()}, rel=1e-5)
    assert loss.epoch_figures() == {"teacher_1": 0, "teacher_2": 0}


def test_forward__only_directions_count(make_loss: Callable[..., Loss], value: Any) -> None:
    whole = LossContext(11, 11, parts=WIDTHS, part_weights=(0.75, 0.25))
    student, teacher = rows(1, 6, 11), rows(2, 6, 11)
    expected = value(build(make_loss, whole), student, teacher)
    scale = torch.cat([torch.full((8,), 0.01), torch.full((3,), 30.0)])
    torch.testing.assert_close(value(build(make_loss, whole), scale * student, 3 * scale * teacher), expected)
    assert value(build(make_loss, whole), teacher, teacher).item() == pytest.approx(0, abs=1e-6)


def test_forward__statistics_are_those_of_all_images(make_loss: Callable[..., Loss], value: Any) -> None:
    teacher = rows(2, 20, 11) * torch.linspace(0.1, 2, 11) + 0.5
    loss, student = build(make_loss), rows(1, 20, 8)
    for start, end in ((0, 3), (3, 4), (4, 20)):
        value(loss, student[start:end], teacher[start:end])
    units = torch.cat([F.normalize(part) for part in teacher.split(WIDTHS, dim=1)], dim=1)
    assert loss.images == 20
    torch.testing.assert_close(loss.mean, units.mean(dim=0))
    torch.testing.assert_close(loss.variance, units.var(dim=0, correction=0))
    # Evaluation uses them and leaves them alone; a restored loss goes on with them.
    loss.eval()
    after = value(loss, student[:4], teacher[:4])
    assert loss.images == 20
    again = build(make_loss)
    again.load_state_dict(loss.state_dict())
    assert torch.equal(value(again.eval(), student[:4], teacher[:4]), after)


def test_forward__gradients_reach_student_and_projector_only(
    make_loss: Callable[..., Loss], value: Any
) -> None:
    student, teacher = rows(1, 6, 8).requires_grad_(), rows(2, 6, 11).requires_grad_()
    loss = build(make_loss)
    value(loss, student, teacher).backward()
    assert student.grad is not None
    assert student.grad.abs().sum() > 0
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in loss.parameters())
    assert teacher.grad is None
    wide = build(make_loss).double()
    assert torch.autograd.gradcheck(
        lambda e: value(wide, e, teacher.detach().double()), (rows(3, 6, 8).double().requires_grad_(),)
    )


def test_forward__one_image(make_loss: Callable[..., Loss], value: Any) -> None:
    student = rows(1, 1, 8).requires_grad_()
    found = value(build(make_loss), student, rows(2, 1, 11))
    found.backward()
    assert 0 < found < 5
    assert student.grad is not None
    assert student.grad.isfinite().all()


def test_forward__parts_and_width_differ(make_loss: Callable[..., Loss]) -> None:
    outputs = StepOutputs(ModelOutputs(rows(1, 2, 8)), ModelOutputs(rows(2, 2, 10)))
    with pytest.raises(ValueError, match=r"parts \[8, 3\].*\(2, 10\)"):
        build(make_loss)(outputs)


def test_build__what_makes_no_sense(make_loss: Callable[..., Loss]) -> None:
    with pytest.raises(ValidationError, match="nothing would be compared"):
        MultiTeacher.Config(cosine=0, smooth_l1=0)
    with pytest.raises(UsageError, match="class scores"):
        build(make_loss, LossContext(3, 3, class_scores=True))
    with pytest.raises(UsageError, match=r"multi_teacher|space") as caught:
        make_loss("cosine_embedding", TWO)
    assert "teacher.space: all" in str(caught.value)
