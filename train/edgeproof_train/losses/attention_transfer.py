"""Where in the picture the network is active, as the target of where the student is."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from edgeproof_configs.registry import register
from edgeproof_train.feature_loss import FeatureLoss, FeatureLossConfig, common_size, mismatch, same_size
from edgeproof_train.loss import LossContext, unit


@register("loss")
class AttentionTransfer(FeatureLoss):
    """AT (arXiv 1612.03928) of the attention `A(F) = a / ||a||`, `a = mean over channels of |F|^p`, (B, HW).

    The form `code`, that of the authors' program, is the mean over images and places of `(A_s - A_t)^2`; with
    it goes a weight near 1000. The form `paper` is `1/2 ||A_s - A_t||`, mean over the batch. The number of
    channels may differ, the larger map is averaged down to the smaller one first. Scaling a map changes
    nothing.
    """

    class Config(FeatureLossConfig):
        """`form`: see above. `p`: how much strong channels count, at least 1."""

        kind: Literal["attention_transfer"] = "attention_transfer"
        form: Literal["code", "paper"] = "code"
        p: Annotated[float, Field(ge=1)] = 2.0

    def __init__(self, config: Any, context: LossContext):
        super().__init__(config, context)
        for pair, shapes in zip(self.pairs, self.shapes, strict=True):
            if common_size(shapes) == (1, 1):
                raise mismatch(
                    *(config.kind, pair, shapes, "a map of one place says nothing about where"),
                    fix="name nodes before the pooling",
                )

    def compare(self, pair: int, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the loss of one pair, at least 0."""
        of_student, of_teacher = (
            attention(features, self.config.p) for features in same_size(student, teacher)
        )
        if self.config.form == "code":
            return F.mse_loss(of_student, of_teacher)
        return torch.linalg.vector_norm(of_student - of_teacher, dim=1).mean() / 2


def attention(features: Tensor, p: float) -> Tensor:
    """Return the attention (B, HW) of maps, unit rows; a map of zeros has a row of zeros.

    Args:
        features: (B, C, H, W).
        p: exponent, at least 1.
    """
    # A map's scale cancels, so its gradient needs no part of it, and no power overflows.
    peak = features.detach().abs().amax(dim=(1, 2, 3), keepdim=True)
    scaled = features / peak.clamp_min(torch.finfo(features.dtype).tiny)
    strength = scaled.square() if p == 2 else scaled.abs().pow(p)
    return unit(strength.mean(dim=1).flatten(1))
