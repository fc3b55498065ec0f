"""Smooth L1 difference of the embeddings, raw or of unit length."""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import Tensor
from torch.nn import functional as F

from edgeproof_configs.registry import register
from edgeproof_configs.schema import LossConfig, PositiveFloat
from edgeproof_train.loss import Loss, embeddings_of, fp32_island, unit
from edgeproof_train.outputs import StepOutputs


@register("loss")
class SmoothL1Embedding(Loss):
    """Mean of `d^2 / (2 beta)` where `d = |e_s - e_t| < beta`, else `d - beta / 2`, over all values.

    A few dimensions with huge values, which raw embeddings of transformers often have, then pull less than
    in a squared error.
    """

    class Config(LossConfig):
        """`beta`: where the square turns into a line. `normalise`: divide both by their length first."""

        kind: Literal["smooth_l1_embedding"] = "smooth_l1_embedding"
        beta: PositiveFloat = 1.0
        normalise: bool = False

    needs: ClassVar[tuple[str, ...]] = ("student.embedding", "teacher.embedding")

    @fp32_island
    def forward(self, outputs: StepOutputs) -> Tensor:
        """Return the loss, at least 0."""
        student, teacher = embeddings_of(self.config.kind, outputs)
        if self.config.normalise:
            student, teacher = unit(student), unit(teacher)
        return F.smooth_l1_loss(student, teacher, beta=self.config.beta)
