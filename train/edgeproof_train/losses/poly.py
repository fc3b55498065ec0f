"""Cross entropy with its first polynomial term re-weighted (PolyLoss)."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from edgeproof_configs.registry import register
from edgeproof_train.label_targets import LabelLoss, LabelLossConfig


@register("loss")
class Poly(LabelLoss):
    """Poly-1: `sum_k q_k (-log p_k + epsilon (1 - p_k))` (arXiv 2204.12511).

    Cross entropy is the series `sum_j (1 - p)^j / j`; this adds `epsilon` to the factor of its first term.
    With label smoothing, `1 - p` is averaged over the smoothed target as the logarithm is.
    """

    class Config(LabelLossConfig):
        """`epsilon`: what is added to the first factor; 0 is cross entropy, -1 leaves the term out."""

        kind: Literal["poly"] = "poly"
        epsilon: Annotated[float, Field(ge=-1)] = 1.0

    needs: ClassVar[tuple[str, ...]] = ("student.logits", "batch.label")

    def penalty(self, log_probability: Tensor) -> Tensor:
        """Return `-log p + epsilon (1 - p)`."""
        return -log_probability - self.config.epsilon * torch.expm1(log_probability)
