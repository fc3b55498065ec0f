"""One minus the cosine between student and teacher."""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import Tensor

from edgeproof_configs.registry import register
from edgeproof_configs.schema import LossConfig
from edgeproof_train.loss import Loss, embeddings_of, fp32_island, unit
from edgeproof_train.outputs import StepOutputs


@register("loss")
class CosineEmbedding(Loss):
    """Mean over the batch of `1 - <e_s, e_t> / (|e_s| |e_t|)`.

    It does not see the length of either embedding, so its weight means the same for every teacher.
    """

    class Config(LossConfig):
        """No settings beside the weight."""

        kind: Literal["cosine_embedding"] = "cosine_embedding"

    needs: ClassVar[tuple[str, ...]] = ("student.embedding", "teacher.embedding")

    @fp32_island
    def forward(self, outputs: StepOutputs) -> Tensor:
        """Return the loss, 0 (same direction) to 2 (opposite)."""
        student, teacher = embeddings_of(self.config.kind, outputs)
        return 1 - (unit(student) * unit(teacher)).sum(dim=-1).mean()
