"""Cross entropy that looks away from images which are classified well already (focal loss)."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from edgeproof_configs.registry import register
from edgeproof_train.label_targets import LabelLoss, LabelLossConfig

SMALLEST_MISS = 1e-12


@register("loss")
class Focal(LabelLoss):
    """`-sum_k q_k (1 - p_k)^gamma log p_k` (arXiv 1708.02002), over the softmax of the class scores.

    `gamma = 0` is cross entropy. With `gamma = 2` an image whose class has a probability of 0.9 counts a
    hundredth of what it would there.
    """

    class Config(LabelLossConfig):
        """`gamma`: how fast the pull of an image fades as its class becomes likely."""

        kind: Literal["focal"] = "focal"
        gamma: Annotated[float, Field(ge=0)] = 2.0

    needs: ClassVar[tuple[str, ...]] = ("student.logits", "batch.label")

    def penalty(self, log_probability: Tensor) -> Tensor:
        """Return `-(1 - p)^gamma log p`."""
        # A power below 1 has an infinite gradient at 0, where the loss is flat.
        miss = -torch.expm1(log_probability)
        return -miss.clamp_min(SMALLEST_MISS).pow(self.config.gamma) * log_probability
