"""The teacher's softened class probabilities as target (knowledge distillation)."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from torch import Tensor
from torch.nn import functional as F

from edgeproof_configs.registry import register
from edgeproof_configs.schema import PositiveFloat
from edgeproof_train.logit_pair import LogitPairConfig, LogitPairLoss
from edgeproof_train.loss import fp32_island
from edgeproof_train.outputs import NO_TOP, StepOutputs
from edgeproof_train.top_targets import kl_from_top


@register("loss")
class SoftTarget(LogitPairLoss):
    """`T^2 KL(softmax(z_t / T) || softmax(z_s / T))` (arXiv 1503.02531), mean over the batch.

    Needs no labels, so a label loss stands beside it as a term of its own. T^2 keeps the size of the
    gradient when the temperature changes. `1 - a` of cross entropy and `a` of this term is a weight of
    `a / (1 - a)`, with the learning rate scaled by `1 - a`.
    """

    class Config(LogitPairConfig):
        """`temperature`: T, what class scores are divided by; 1 on ImageNet, 4 on small data sets."""

        kind: Literal["soft_target"] = "soft_target"
        temperature: PositiveFloat = 4.0

    needs: ClassVar[tuple[str, ...]] = ("student.logits", "teacher.logits")

    @classmethod
    def why_not_top_k(cls, config: Any) -> str:
        """Return why not: an evenly spread rest is that of temperature 1 and of scores as they were."""
        if config.temperature != 1:
            return "it was taken at temperature 1 and cannot be softened afterwards: set temperature: 1"
        return "standardised scores need all of them: remove standardise" if config.standardise else ""

    @fp32_island
    def forward(self, outputs: StepOutputs) -> Tensor:
        """Return the loss, at least 0."""
        if outputs.teacher.top is not NO_TOP:
            return kl_from_top(outputs.student.logits, outputs.teacher.top)
        student, teacher = self.scores(outputs)
        temperature = self.config.temperature
        student_log, teacher_log = (F.log_softmax(z / temperature, dim=1) for z in (student, teacher))
        divergence = F.kl_div(student_log, teacher_log, reduction="batchmean", log_target=True)
        return divergence * temperature**2
