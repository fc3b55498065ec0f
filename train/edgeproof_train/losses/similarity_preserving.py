"""Which images of a batch look alike to the teacher, as the target of which do to the student."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from edgeproof_configs.registry import register
from edgeproof_train.feature_loss import FeatureLoss, FeatureLossConfig

SMALLEST_NORM = 1e-12


@register("loss")
class SimilarityPreserving(FeatureLoss):
    """SP (arXiv 1907.09682): `||G_t - G_s||_F^2 / B^2` with `G = Q Q'` (B, B), rows of length 1.

    `Q` (B, C H W) are the maps as rows; the two may differ in every size. Scaling or turning the rows of a
    side changes nothing.
    """

    class Config(FeatureLossConfig):
        """`norm`: of the rows of G; `l1_compat` repeats programs that divide by sums of absolute values."""

        kind: Literal["similarity_preserving"] = "similarity_preserving"
        norm: Literal["l2", "l1_compat"] = "l2"

    depends_on_batch: ClassVar[bool] = True

    def compare(self, pair: int, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the loss of one pair, at least 0; 0 for a batch of one image."""
        order = 2.0 if self.config.norm == "l2" else 1.0
        return F.mse_loss(similarities(student, order), similarities(teacher, order))


def similarities(features: Tensor, order: float) -> Tensor:
    """Return the products (B, B) of all pairs of maps (B, C, H, W), rows of norm 1; 0 for a map of zeros."""
    rows = features.flatten(1)
    # The scale of all rows together cancels, and sums of C H W squares stay small.
    rows = rows / rows.detach().abs().amax().clamp_min(torch.finfo(rows.dtype).tiny)
    return F.normalize(rows @ rows.T, p=order, dim=1, eps=SMALLEST_NORM)
