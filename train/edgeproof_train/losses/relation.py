"""How an anchor differs from its positive and from its negative, as the teacher sees it."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from edgeproof_configs.errors import UsageError
from edgeproof_configs.registry import register
from edgeproof_configs.schema import Fraction, LossConfig
from edgeproof_train.loss import Loss, LossContext, fp32_island, unit
from edgeproof_train.losses.triplet import pairs_of
from edgeproof_train.outputs import StepOutputs

SMALLEST_SQUARE = 1e-24
OF_TOKENS = ("student.tokens", "teacher.tokens", "batch.label")
OF_EMBEDDINGS = ("student.embedding", "teacher.embedding", "batch.label")


class Sides(NamedTuple):
    """One vector a row of the student, with gradient, and of the teacher, without; (B, D) each."""

    student: Tensor
    teacher: Tensor


class RelationConfig(LossConfig):
    """What counts how much.

    Attributes:
        r_gl: share of the global token; the rest is of the mean of the local ones. With 1 embeddings take
            the place of tokens.
        r_oi: share of the relation to the teacher (outer); the rest is among the student's own (inner).
        m_d: margin between the distances to positive and negative.
        m_a: margin between the cosines.
    """

    r_gl: Fraction = 0.8
    r_oi: Fraction = 0.8
    m_d: Annotated[float, Field(ge=0)] = 1.0
    m_a: Annotated[float, Field(ge=0)] = 0.2


@register("loss")
class Relation(Loss):
    """`r_gl L_G + (1 - r_gl) L_L` over all triplets (a, p, n) of a batch; p of a's class, n of another one.

    G is the global token and L the mean of the local ones, both as unit vectors. With `v+ = a - p` and
    `v- = a - n` of student and teacher each is `r_oi R + (1 - r_oi) I`:

    - outer, `R = mean(|v+_s - v+_t| + |v-_s - v-_t| + 1 - cos(v+_s, v+_t) + 1 - cos(v-_s, v-_t))`, 0 where
      the student is the teacher;
    - inner, `I = mean(max(|a - p| - |a - n| + m_d, 0) + max(cos(a, n) - cos(a, p) + m_a, 0))` of the student.

    Turning both sides by one rotation changes nothing. Rows without a label are left out; a batch without a
    triplet gives 0, with a gradient of 0. Where the teacher's two are the same point, no direction is asked
    of the student.
    """

    class Config(RelationConfig):
        """No settings beside those of every loss on relations."""

        kind: Literal["relation"] = "relation"

    needs: ClassVar[tuple[str, ...]] = OF_TOKENS
    depends_on_batch: ClassVar[bool] = True
    one_label: ClassVar[bool] = True

    def __init__(self, config: Any, context: LossContext):
        super().__init__(config, context)
        check_token_widths(config.kind, self.needs_of(config), context)

    @classmethod
    def needs_of(cls, config: Any) -> tuple[str, ...]:
        """Return tokens; embeddings where only the global token counts."""
        return OF_EMBEDDINGS if config.r_gl == 1 else OF_TOKENS

    @fp32_island
    def forward(self, outputs: StepOutputs) -> Tensor:
        """Return the loss, at least 0."""
        positive, negative = pairs_of(outputs.label)
        if self.config.r_gl == 1:
            of_all = Sides(unit(outputs.student.embedding), unit(outputs.teacher.embedding.detach()))
            return self.of(of_all, positive, negative)
        student, teacher = outputs.student.tokens, outputs.teacher.tokens.detach()
        whole = Sides(unit(student[:, 0]), unit(teacher[:, 0]))
        local = Sides(unit(student[:, 1:].mean(dim=1)), unit(teacher[:, 1:].mean(dim=1)))
        share = self.config.r_gl
        return share * self.of(whole, positive, negative) + (1 - share) * self.of(local, positive, negative)

    def of(self, rows: Sides, positive: Tensor, negative: Tensor) -> Tensor:
        """Return `r_oi R + (1 - r_oi) I` of unit rows."""
        weights = weights_of(positive, negative)
        outer = outer_relation(rows, weights.positive) + outer_relation(rows, weights.negative)
        share = self.config.r_oi
        return share * outer + (1 - share) * self.inner(rows.student, positive, negative)

    def inner(self, rows: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        """Return I of the student's unit rows."""
        apart, alike = norm(rows[:, None] - rows[None]), rows @ rows.T
        farther = over_triplets(apart, positive, negative, self.config.m_d)
        return farther + over_triplets(-alike, positive, negative, self.config.m_a)


class Weights(NamedTuple):
    """How often each pair (a, p) and each pair (a, n) stands in a triplet, as a share of all; (B, B) each."""

    positive: Tensor
    negative: Tensor


def weights_of(positive: Tensor, negative: Tensor) -> Weights:
    """Return the weights of pairs that make their weighted sum the mean over triplets; 0 without triplets."""
    count = (positive.sum(dim=1) * negative.sum(dim=1)).sum().clamp_min(1)
    return Weights(
        positive * negative.sum(dim=1, keepdim=True) / count,
        negative * positive.sum(dim=1, keepdim=True) / count,
    )


def outer_relation(rows: Sides, weights: Tensor) -> Tensor:
    """Return the weighted sum over pairs of `|v_s - v_t| + 1 - cos(v_s, v_t)`, v the difference of a pair."""
    student, teacher = (side[:, None] - side[None] for side in rows)
    turned = (1 - (direction(student) * direction(teacher)).sum(dim=-1)) * (
        squares(teacher) > SMALLEST_SQUARE
    )
    return (weights * (norm(student - teacher) + turned)).sum()


def over_triplets(near: Tensor, positive: Tensor, negative: Tensor, margin: float) -> Tensor:
    """Return the mean of `max(near_ap - near_an + margin, 0)` over all triplets; 0 without any."""
    anchor, one, other = (positive[:, :, None] & negative[:, None, :]).nonzero(as_tuple=True)
    hinge = F.relu(near[anchor, one] - near[anchor, other] + margin)
    return hinge.mean() if len(hinge) else near.sum() * 0


def squares(rows: Tensor) -> Tensor:
    """Return the squared length of rows (..., D)."""
    return rows.square().sum(dim=-1)


def norm(rows: Tensor) -> Tensor:
    """Return the length of rows (..., D); a row of no length has a gradient of 0."""
    squared = squares(rows)
    there = squared > SMALLEST_SQUARE
    return torch.where(there, torch.where(there, squared, 1.0).sqrt(), 0.0)


def direction(rows: Tensor) -> Tensor:
    """Return rows (..., D) divided by their length; a row of no length is 0 and has a gradient of 0."""
    squared = squares(rows)[..., None]
    there = squared > SMALLEST_SQUARE
    return torch.where(there, rows / torch.where(there, squared, 1.0).sqrt(), 0.0)


def check_token_widths(name: str, needs: tuple[str, ...], context: LossContext) -> None:
    """Refuse tokens, or embeddings, of student and teacher that are not equally wide.

    Raises:
        UsageError: they are not.
    """
    student, teacher = (context.student_dim,), (context.teacher_dim,)
    has = "embedding has"
    if "student.tokens" in needs:
        student, teacher, has = context.student_tokens, context.teacher_tokens, "tokens have"
    if student is None or teacher is None or student[-1] == teacher[-1]:
        return
    raise UsageError(
        f"{name}: the student's {has} {student[-1]} values, the teacher's {teacher[-1]}",
        where="losses",
        fix=f"give the student a head of {teacher[-1]} outputs",
    )
