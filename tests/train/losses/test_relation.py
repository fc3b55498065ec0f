"""Relations among the tokens of triplets: as they should be, and as an earlier system had them."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from edgeproof_configs.errors import UsageError
from edgeproof_configs.registry import component_class
from edgeproof_train.loss import Loss, LossContext
from edgeproof_train.outputs import ModelOutputs, StepOutputs

LABEL = torch.tensor([0, 1, 0, -1, 1, 2, 0])
ROWS, PLACES, WIDTH = len(LABEL), 4, 6
CONTEXT = LossContext(WIDTH, WIDTH, 3, student_tokens=(1 + PLACES, WIDTH), teacher_tokens=(1 + PLACES, WIDTH))
KINDS = ["relation", "relation_compat"]
MakeLoss = Callable[..., Loss]


def tokens(seed: int) -> Tensor:
    return torch.randn(ROWS, 1 + PLACES, WIDTH, generator=torch.Generator().manual_seed(seed))


def of(loss: Loss, student: Tensor, teacher: Tensor, label: Tensor = LABEL) -> Tensor:
    student_outputs = ModelOutputs(student[:, 0], tokens=student)
    return loss(StepOutputs(student_outputs, ModelOutputs(teacher[:, 0], tokens=teacher), label=label))


def triplets(label: Tensor = LABEL) -> list[tuple[int, int, int]]:
    known = [place for place in range(len(label)) if label[place] >= 0]
    return [(a, p, n) for a, p, n in product(known, repeat=3) if a != p and label[a] == label[p] != label[n]]


def slowly(
    kind: str, student: Tensor, teacher: Tensor, r_gl: float, r_oi: float, m_d: float, m_a: float
) -> Tensor:
    """Return the loss triplet by triplet, written down from its definition."""

    def parts(rows: Tensor) -> tuple[Tensor, Tensor]:
        if kind == "relation":
            unit = F.normalize
            return unit(rows[:, 0], dim=1), unit(rows[:, 1:].mean(dim=1), dim=1)
        length = rows.square().sum(dim=1, keepdim=True).sqrt()
        return (rows / length)[:, 0], (rows / length)[:, 1:].mean(dim=1)

    terms = []
    for ours, theirs in zip(parts(student), parts(teacher), strict=True):
        outer, inner = [], []
        for a, p, n in triplets():
            total = torch.zeros(())
            for other in (p, n):
                v_s, v_t = ours[a] - ours[other], theirs[a] - theirs[other]
                total = total + (v_s - v_t).norm()
                total = total + (
                    1 - F.cosine_similarity(v_s, v_t, dim=0) if kind == "relation" else v_s @ v_t
                )
            outer.append(total)
            near, far = (ours[a] - ours[p]).norm(), (ours[a] - ours[n]).norm()
            alike, other = (
                F.cosine_similarity(ours[a], ours[p], dim=0),
                F.cosine_similarity(ours[a], ours[n], dim=0),
            )
            turned = other - alike if kind == "relation" else alike - other
            inner.append((near - far + m_d).clamp_min(0) + (turned + m_a).clamp_min(0))
        terms.append(r_oi * torch.stack(outer).mean() + (1 - r_oi) * torch.stack(inner).mean())
    return r_gl * terms[0] + (1 - r_gl) * terms[1]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "settings",
    [
        {"r_gl": 0.8, "r_oi": 0.8, "m_d": 1.0, "m_a": 0.2},
        {"r_gl": 0.3, "r_oi": 0.0, "m_d": 0.1, "m_a": 0.0},
        {"r_gl": 0.0, "r_oi": 1.0, "m_d": 0.0, "m_a": 0.5},
    ],
)
def test_forward__matches_the_slow_way(kind: str, settings: dict[str, float], make_loss: MakeLoss) -> None:
    student, teacher = tokens(1), tokens(2)
    expected = slowly(kind, student, teacher, **settings)
    torch.testing.assert_close(of(make_loss(kind, CONTEXT, **settings), student, teacher), expected)


def test_forward__defaults_are_the_papers() -> None:
    component: Any = component_class("loss", "relation")
    config = component.Config()
    assert (config.r_gl, config.r_oi, config.m_d, config.m_a) == (0.8, 0.8, 1.0, 0.2)


def test_forward__by_hand(make_loss: MakeLoss) -> None:
    # One triplet each way round: a and p on the axes of a plane for the student, n opposite of a; the
    # teacher has p where a is. Only the global token counts.
    student = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    teacher = torch.tensor([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]])
    label = torch.tensor([0, 0, 1])
    context = LossContext(2, 2, 2)
    outputs = StepOutputs(ModelOutputs(student), ModelOutputs(teacher), label=label)
    # v+ of the student is (1, -1) or its opposite, of the teacher nothing: sqrt 2 and no direction. v- from a
    # is (2, 0) on both sides: 0. From p it is (1, 1) against (2, 0): sqrt 2, and a cosine of 1 / sqrt 2.
    root = 2**0.5
    outer = ((root + 0) + (root + root + 1 - 1 / root)) / 2
    found = make_loss("relation", context, r_gl=1, r_oi=1)(outputs)
    assert found.item() == pytest.approx(outer, rel=1e-6)
    # From a: max(sqrt 2 - 2 + 1, 0) and max(-1 - 0 + .2, 0); from p: max(sqrt 2 - sqrt 2 + 1, 0) and .2.
    inner = ((root - 1 + 0) + (1 + 0.2)) / 2
    assert make_loss("relation", context, r_gl=1, r_oi=0)(outputs).item() == pytest.approx(inner, rel=1e-6)


def test_forward__outer_is_0_when_the_student_is_the_teacher(make_loss: MakeLoss) -> None:
    teacher = tokens(3)
    teacher[2] = teacher[0]
    assert of(make_loss("relation", CONTEXT, r_oi=1), teacher.clone(), teacher).item() == pytest.approx(
        0, abs=1e-6
    )
    assert of(make_loss("relation_compat", CONTEXT, r_oi=1), teacher.clone(), teacher).item() > 0.1


def test_forward__blind_to_a_rotation_of_both_sides(make_loss: MakeLoss) -> None:
    turn = torch.linalg.qr(torch.randn(WIDTH, WIDTH, generator=torch.Generator().manual_seed(5)))[0]
    student, teacher = tokens(1), tokens(2)
    loss = make_loss("relation", CONTEXT)
    torch.testing.assert_close(of(loss, student @ turn, 3 * teacher @ turn), of(loss, student, teacher))
    assert of(loss, student @ turn, teacher) != of(loss, student, teacher)


@pytest.mark.parametrize("kind", KINDS)
def test_forward__gradcheck_and_none_to_the_teacher(kind: str, make_loss: MakeLoss) -> None:
    loss = make_loss(kind, CONTEXT).double()
    student = tokens(1).double().requires_grad_()
    teacher = tokens(2).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda e: of(loss, e, teacher.detach()), (student,))
    of(loss, student, teacher).backward()
    assert teacher.grad is None


@pytest.mark.parametrize("kind", KINDS)
def test_forward__equal_rows_have_a_finite_gradient(kind: str, make_loss: MakeLoss) -> None:
    student = torch.ones(ROWS, 1 + PLACES, WIDTH, requires_grad=True)
    of(make_loss(kind, CONTEXT), student, tokens(2)).backward()
    assert student.grad is not None
    assert student.grad.isfinite().all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("label", [[-1] * ROWS, [0] * ROWS, list(range(ROWS))])
def test_forward__without_a_triplet_it_is_0_with_a_gradient(
    kind: str, label: list[int], make_loss: MakeLoss
) -> None:
    student = tokens(1).requires_grad_()
    value = of(make_loss(kind, CONTEXT), student, tokens(2), torch.tensor(label))
    value.backward()
    assert value == 0
    assert student.grad is not None
    assert not student.grad.any()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_forward__half_precision_inputs(kind: str, dtype: torch.dtype, make_loss: MakeLoss) -> None:
    loss = make_loss(kind, CONTEXT)
    student, teacher = 300 * tokens(1).to(dtype), 300 * tokens(2).to(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = of(loss, student, teacher)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, of(loss, student.float(), teacher.float()))


def test_build__other_widths_are_refused(make_loss: MakeLoss) -> None:
    context = LossContext(WIDTH, WIDTH, 3, student_tokens=(5, WIDTH), teacher_tokens=(50, 8))
    with pytest.raises(UsageError, match="the student's tokens have 6 values, the teacher's 8"):
        make_loss("relation", context)
    with pytest.raises(UsageError, match="the student's embedding has 6 values, the teacher's 8"):
        make_loss("relation", LossContext(WIDTH, 8, 3), r_gl=1)
    make_loss("relation", LossContext(WIDTH, WIDTH, 3, student_tokens=(5, 6), teacher_tokens=(50, 6)))


def test_needs_of__embeddings_where_only_the_global_token_counts() -> None:
    component: Any = component_class("loss", "relation")
    assert "student.tokens" in component.needs_of(component.Config())
    assert "student.tokens" not in component.needs_of(component.Config(r_gl=1))
    compat: Any = component_class("loss", "relation_compat")
    assert "student.tokens" in compat.needs_of(compat.Config(r_gl=1))


def test_token_mse__is_the_mean_square(make_loss: MakeLoss) -> None:
    student, teacher = tokens(1), tokens(2)
    loss = make_loss("token_mse", CONTEXT)
    torch.testing.assert_close(of(loss, student, teacher), (student - teacher).square().mean())
    assert of(loss, teacher.clone(), teacher) == 0
    wide = student.double().requires_grad_()
    assert torch.autograd.gradcheck(lambda e: of(loss, e, teacher.double()), (wide,))


def test_token_mse__other_shapes_are_refused(make_loss: MakeLoss) -> None:
    context = LossContext(WIDTH, WIDTH, 3, student_tokens=(5, WIDTH), teacher_tokens=(50, WIDTH))
    with pytest.raises(UsageError, match=r"the student's tokens are \(5, 6\), the teacher's \(50, 6\)"):
        make_loss("token_mse", context)
