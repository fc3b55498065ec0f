"""Cross entropy of the student's class scores against the labels."""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import Tensor

from edgeproof_configs.registry import register
from edgeproof_train.label_targets import LabelLoss, LabelLossConfig


@register("loss")
class CrossEntropy(LabelLoss):
    """`-sum_k q_k log p_k`, with the softmax `p` of the student's class scores and the labels' target `q`.

    Mixed images (mixup, CutMix) are learnt as `share CE(y) + (1 - share) CE(partner)`, each on its own share.
    """

    class Config(LabelLossConfig):
        """No settings beside the weight and the smoothing."""

        kind: Literal["cross_entropy"] = "cross_entropy"

    needs: ClassVar[tuple[str, ...]] = ("student.logits", "batch.label")

    def penalty(self, log_probability: Tensor) -> Tensor:
        """Return `-log p`."""
        return -log_probability
