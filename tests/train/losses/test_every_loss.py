"""What holds for every registered loss: full precision inside, gradients where they belong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from edgeproof_configs.errors import UsageError
from edgeproof_configs.registry import discover
from edgeproof_train.loss import Loss, LossContext

OF_EMBEDDINGS_AND_SCORES = {
    *("student.embedding", "student.logits", "teacher.embedding", "teacher.logits"),
    *("batch.label", "text_embeddings"),
}
KINDS = sorted(
    kind
    for kind, found in discover("loss").items()
    if set(vars(found).get("needs", ("of its nodes",))) <= OF_EMBEDDINGS_AND_SCORES
)
PAIRED = [
    kind
    for kind in KINDS
    if {"teacher.embedding", "teacher.logits"} & set(vars(discover("loss")[kind])["needs"])
]
SCORES = [kind for kind in KINDS if "student.logits" in vars(discover("loss")[kind])["needs"]]
EMBEDDING = ["cosine_embedding", "mse_embedding", "smooth_l1_embedding", "text_kl"]
LOGIT = ["soft_target", "dkd", "dist", "hard_distillation"]
LABEL = torch.tensor([0, 1, 3, -1, 2, 0])


def test_discover__finds_the_losses_of_the_recipes() -> None:
    expected = {
        *LOGIT,
        "clip_affinity",
        "clip_contrastive",
        "cross_entropy",
        "focal",
        "poly",
        "cosine_embedding",
        "label_cross_entropy",
        "mse_embedding",
        "relational",
        "smooth_l1_embedding",
        "text_cross_entropy",
        "text_kl",
        "triplet",
    }
    assert expected <= set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_forward__gradcheck(
    kind: str, make_loss: Callable[..., Loss], value: Any, student: Tensor, teacher: Tensor
) -> None:
    loss = make_loss(kind, **settings(kind)).double()
    wide = student.double().requires_grad_()
    assert torch.autograd.gradcheck(lambda e: value(loss, e, teacher.double(), LABEL), (wide,))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_forward__half_precision_inputs(
    kind: str, dtype: torch.dtype, make_loss: Callable[..., Loss], value: Any
) -> None:
    # A CLIP tower gives 512 values of size 10 to 60; their squares sum to more than float16 can hold.
    generator = torch.Generator().manual_seed(0)
    student, teacher = (40 * torch.randn(6, 512, generator=generator) for _ in range(2))
    text = torch.nn.functional.normalize(torch.randn(5, 512, generator=generator), dim=-1)
    context = LossContext(512, 512, 4, lambda spec: text, torch.tensor([2, 0, -1, 4]))
    loss = make_loss(kind, context, **settings(kind))
    student, teacher = student.to(dtype), teacher.to(dtype)
    student.requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = value(loss, student, teacher, LABEL)
    result.backward()
    full = value(loss, student.detach().float(), teacher.float(), LABEL)
    assert result.dtype == torch.float32
    assert student.grad is not None
    assert student.grad.isfinite().all()
    torch.testing.assert_close(result.detach(), full.detach(), rtol=1e-6, atol=0)


@pytest.mark.parametrize("kind", SCORES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("size", [1e4, -1e4])
def test_forward__huge_class_scores(
    kind: str, dtype: torch.dtype, size: float, make_loss: Callable[..., Loss], value: Any
) -> None:
    # One class far above or below the rest, first agreed on, then not: probabilities of 0 and 1.
    student, teacher = torch.zeros(6, 8, dtype=dtype), torch.zeros(6, 8, dtype=dtype)
    student[:, 0] = teacher[:3, 0] = teacher[3:, 1] = size
    student.requires_grad_()
    loss = make_loss(kind, **settings(kind))
    result = value(loss, student, teacher, LABEL)
    result.backward()
    full = value(loss.double(), student.detach().double(), teacher.double(), LABEL)
    assert student.grad is not None
    assert student.grad.isfinite().all()
    assert full.isfinite()
    torch.testing.assert_close(result.double(), full, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", PAIRED)
def test_forward__no_gradient_to_the_teacher(
    kind: str, make_loss: Callable[..., Loss], value: Any, student: Tensor, teacher: Tensor
) -> None:
    student.requires_grad_()
    teacher.requires_grad_()
    value(make_loss(kind, **settings(kind)), student, teacher, LABEL).backward()
    assert student.grad is not None
    assert student.grad.abs().sum() > 0
    assert teacher.grad is None


# The target of hard distillation is the teacher's decision, not its doubt.
@pytest.mark.parametrize("kind", [kind for kind in PAIRED if kind != "hard_distillation"])
def test_forward__zero_when_the_student_is_the_teacher(
    kind: str, make_loss: Callable[..., Loss], value: Any, teacher: Tensor
) -> None:
    same = value(make_loss(kind, **settings(kind)), teacher.clone(), teacher, LABEL)
    assert same.item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("relational", "triplet")])
def test_forward__doubling_the_batch_changes_nothing(
    kind: str, make_loss: Callable[..., Loss], value: Any, student: Tensor, teacher: Tensor
) -> None:
    loss = make_loss(kind, **settings(kind))
    once = value(loss, student, teacher, LABEL)
    twice = value(loss, student.repeat(2, 1), teacher.repeat(2, 1), LABEL.repeat(2))
    torch.testing.assert_close(once, twice)


@pytest.mark.parametrize("kind", EMBEDDING + LOGIT)
def test_forward__another_shape_is_refused(
    kind: str, make_loss: Callable[..., Loss], value: Any, student: Tensor
) -> None:
    with pytest.raises(ValueError, match=r"\(6, 8\).*\(6, 7\)"):
        value(make_loss(kind, **settings(kind)), student, student[:, :7], LABEL)


@pytest.mark.parametrize("kind", EMBEDDING + LOGIT)
def test_build__another_width_is_refused(kind: str, make_loss: Callable[..., Loss], text: Tensor) -> None:
    context = LossContext(8, 16, 4, lambda spec: text, torch.tensor([2, 0, -1, 4]))
    with pytest.raises(UsageError, match=r"\(B, 8\).*\(B, 16\)"):
        make_loss(kind, context, **settings(kind))


def settings(kind: str) -> dict[str, Any]:
    """A learnt scale and small scores, so that gradients are neither absent nor tiny."""
    if kind == "text_cross_entropy":
        return {"logit_scale": 5.0, "learn_logit_scale": True, "label_smoothing": 0.1}
    if kind in ("clip_affinity", "clip_contrastive"):
        return {"logit_scale": 5.0}
    if kind == "fixed_head":
        return {"ce_weight": 0.0, "scale": 5.0, "temperature": 2.0}
    return {"logit_scale": 5.0, "temperature": 2.0} if kind == "text_kl" else {}
