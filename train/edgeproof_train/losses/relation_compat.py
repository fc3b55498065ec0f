"""The relation loss as an earlier system computed it, kept to compare with."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from edgeproof_configs.registry import register
from edgeproof_train.loss import fp32_island
from edgeproof_train.losses.relation import (
    OF_TOKENS,
    Relation,
    RelationConfig,
    Sides,
    norm,
    over_triplets,
    weights_of,
)
from edgeproof_train.losses.triplet import pairs_of
from edgeproof_train.outputs import StepOutputs


@register("loss")
class RelationCompat(Relation):
    """`relation` with three differences, which are errors of its origin; use `relation` to train.

    - Tokens are normalised once over the token axis: each dimension has length 1 over the 1 + P tokens. G is
      the first token of that and L the mean of the others, as they are.
    - R has `<v_s, v_t>` in place of `1 - cos(v_s, v_t)`, so that it drives the differences apart.
    - The hinge on cosines is reversed, `max(cos(a, p) - cos(a, n) + m_a, 0)`.

    It can be negative, and is not 0 where the student is the teacher.
    """

    class Config(RelationConfig):
        """No settings beside those of every loss on relations."""

        kind: Literal["relation_compat"] = "relation_compat"

    needs: ClassVar[tuple[str, ...]] = OF_TOKENS

    @classmethod
    def needs_of(cls, config: Any) -> tuple[str, ...]:
        """Return tokens, whatever counts of them."""
        del config
        return cls.needs

    @fp32_island
    def forward(self, outputs: StepOutputs) -> Tensor:
        """Return the loss, of any sign."""
        positive, negative = pairs_of(outputs.label)
        student = F.normalize(outputs.student.tokens, dim=1)
        teacher = F.normalize(outputs.teacher.tokens.detach(), dim=1)
        whole = self.of(Sides(student[:, 0], teacher[:, 0]), positive, negative)
        local = self.of(Sides(student[:, 1:].mean(dim=1), teacher[:, 1:].mean(dim=1)), positive, negative)
        return self.config.r_gl * whole + (1 - self.config.r_gl) * local

    def of(self, rows: Sides, positive: Tensor, negative: Tensor) -> Tensor:
        """Return `r_oi R + (1 - r_oi) I` of rows as they are."""
        student, teacher = (side[:, None] - side[None] for side in rows)
        each = norm(student - teacher) + (student * teacher).sum(dim=-1)
        weights = weights_of(positive, negative)
        outer = ((weights.positive + weights.negative) * each).sum()
        return self.config.r_oi * outer + (1 - self.config.r_oi) * self.inner(
            rows.student, positive, negative
        )

    def inner(self, rows: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        """Return I, with the hinge on cosines reversed."""
        apart = norm(rows[:, None] - rows[None])
        alike = torch.cosine_similarity(rows[:, None], rows[None], dim=-1)
        farther = over_triplets(apart, positive, negative, self.config.m_d)
        return farther + over_triplets(alike, positive, negative, self.config.m_a)
