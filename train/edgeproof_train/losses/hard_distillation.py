"""The teacher's decision as label."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from torch import Tensor
from torch.nn import functional as F

from edgeproof_configs.registry import register
from edgeproof_configs.schema import LossConfig
from edgeproof_train.logit_pair import check_classes, logits_of
from edgeproof_train.loss import Loss, LossContext, fp32_island
from edgeproof_train.outputs import NO_TOP, StepOutputs


@register("loss")
class HardDistillation(Loss):
    """`CE(z_s, argmax z_t)` (DeiT, arXiv 2012.12877), mean over the batch.

    The first of several equal scores is taken. Needs no labels and has no temperature. It is not 0 for a
    student that equals its teacher: the target is the teacher's decision, not its doubt.
    """

    class Config(LossConfig):
        """No settings beside the weight; beside cross entropy the paper weighs both the same."""

        kind: Literal["hard_distillation"] = "hard_distillation"

    needs: ClassVar[tuple[str, ...]] = ("student.logits", "teacher.logits")

    def __init__(self, config: Any, context: LossContext):
        super().__init__(config, context)
        check_classes(config.kind, context)

    @classmethod
    def why_not_top_k(cls, config: Any) -> str:
        """Return nothing: the largest probability is among them."""
        del config
        return ""

    @fp32_island
    def forward(self, outputs: StepOutputs) -> Tensor:
        """Return the loss, at least 0."""
        if outputs.teacher.top is not NO_TOP:
            return F.cross_entropy(outputs.student.logits, outputs.teacher.top.ids[:, 0])
        student, teacher = logits_of(self.config.kind, outputs)
        return F.cross_entropy(student, teacher.argmax(dim=1))
