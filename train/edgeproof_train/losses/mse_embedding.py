"""Mean squared difference of the embeddings, raw or of unit length."""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import Tensor
from torch.nn import functional as F

from edgeproof_configs.registry import register
from edgeproof_configs.schema import LossConfig
from edgeproof_train.loss import Loss, embeddings_of, fp32_island, unit
from edgeproof_train.outputs import StepOutputs


@register("loss")
class MseEmbedding(Loss):
    """Mean over batch and dimensions of `(e_s - e_t)^2`.

    With `normalise` both are divided by their length first; the loss is then `2 (1 - cosine) / D`, so that
    a weight of 1000 at D = 512 is as strong as `cosine_embedding` with a weight of 3.9.
    """

    class Config(LossConfig):
        """`normalise`: compare directions only. A raw loss grows with the square of the lengths."""

        kind: Literal["mse_embedding"] = "mse_embedding"
        normalise: bool = True

    needs: ClassVar[tuple[str, ...]] = ("student.embedding", "teacher.embedding")

    @fp32_island
    def forward(self, outputs: StepOutputs) -> Tensor:
        """Return the loss, at least 0."""
        student, teacher = embeddings_of(self.config.kind, outputs)
        if self.config.normalise:
            student, teacher = unit(student), unit(teacher)
        return F.mse_loss(student, teacher)
