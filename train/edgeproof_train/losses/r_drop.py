"""Two passes with other units dropped ought to say the same (R-Drop)."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from edgeproof_configs.registry import register
from edgeproof_configs.schema import LossConfig
from edgeproof_train.loss import Loss, fp32_island
from edgeproof_train.outputs import StepOutputs


@register("loss")
class RDrop(Loss):
    """`(KL(p_1 || p_2) + KL(p_2 || p_1)) / 2` of two passes (arXiv 2106.14448), mean over the batch.

    Both passes have a gradient. The weight is the paper's alpha. It is a term beside those that teach: they
    are averaged over both passes.
    """

    class Config(LossConfig):
        """No settings beside the weight, 0.3 unless told; the paper takes 1 to 5."""

        kind: Literal["r_drop"] = "r_drop"
        weight: Annotated[float, Field(ge=0)] = 0.3

    needs: ClassVar[tuple[str, ...]] = ("student.logits", "student.second")

    @fp32_island
    def forward(self, outputs: StepOutputs) -> Tensor:
        """Return the loss, at least 0."""
        first, second = (F.log_softmax(o.logits, dim=1) for o in (outputs.student, outputs.second))
        # The two divergences share their factors: p_1 (l_1 - l_2) + p_2 (l_2 - l_1), l = log p.
        return 0.5 * ((first.exp() - second.exp()) * (first - second)).sum(dim=1).mean()
