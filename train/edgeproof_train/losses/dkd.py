"""Soft targets in two parts: how sure the teacher is, and what else it might be (decoupled distillation)."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn import functional as F

from edgeproof_configs.registry import register
from edgeproof_configs.schema import PositiveFloat
from edgeproof_train.label_targets import check_label_space, mean_over
from edgeproof_train.logit_pair import LogitPairConfig, LogitPairLoss
from edgeproof_train.loss import LossContext, fp32_island
from edgeproof_train.outputs import StepOutputs


@register("loss")
class DKD(LogitPairLoss):
    """`T^2 (alpha KL(b_t || b_s) + beta KL(r_t || r_s))` (arXiv 2203.08679), mean over the labelled images.

    `b` is the pair of probabilities of the image's own class and of all others, `r` the softmax over the
    others alone, both at temperature T. Plain soft targets weigh the second part by the teacher's
    probability of the others, so that a sure teacher hardly tells what else the image looks like; here its
    weight is the same for every image. With a large `beta` the first epochs want a warm-up (the paper: 20).
    """

    class Config(LogitPairConfig):
        """The paper's for CIFAR-100; on ImageNet alpha 1, beta 0.5, temperature 1.

        Attributes:
            alpha: weight of the image's own class against the others.
            beta: weight of the others among themselves.
            temperature: T.
        """

        kind: Literal["dkd"] = "dkd"
        alpha: Annotated[float, Field(ge=0)] = 1.0
        beta: Annotated[float, Field(ge=0)] = 8.0
        temperature: PositiveFloat = 4.0

        @model_validator(mode="after")
        def _something_is_compared(self) -> DKD.Config:
            if not self.alpha and not self.beta:
                raise ValueError("alpha and beta are both 0: nothing would be compared")
            return self

    needs: ClassVar[tuple[str, ...]] = ("student.logits", "teacher.logits", "batch.label")
    one_label: ClassVar[bool] = True

    def __init__(self, config: Any, context: LossContext):
        super().__init__(config, context)
        check_label_space(config.kind, context)

    @fp32_island
    def forward(self, outputs: StepOutputs) -> Tensor:
        """Return the loss, at least 0.

        Raises:
            ValueError: the images are mixed and so have no one label.
        """
        if outputs.mix is not None:
            raise ValueError("dkd: mixed images have no one label; take soft_target beside mixup and CutMix")
        student, teacher = (z / self.config.temperature for z in self.scores(outputs))
        own = F.one_hot(outputs.label.clamp_min(0), student.shape[1]).bool()
        cost = self.config.alpha * own_class_kl(student, teacher, own)
        cost = cost + self.config.beta * other_classes_kl(student, teacher, own)
        return self.config.temperature**2 * mean_over(cost, outputs.label >= 0)


def own_class_kl(student: Tensor, teacher: Tensor, own: Tensor) -> Tensor:
    """Return KL (B,) between the pairs (probability of the own class, of all others)."""
    student_log, teacher_log = own_and_others(student, own), own_and_others(teacher, own)
    return (teacher_log.exp() * (teacher_log - student_log)).sum(dim=1)


def own_and_others(scores: Tensor, own: Tensor) -> Tensor:
    """Return `[log p_y, log(1 - p_y)]`, (B, 2), from scores (B, K) and a mask of the own class (B, K)."""
    # From the scores of the others: 1 - p_y rounds to 0 for a sure model, and its logarithm is infinite.
    others = scores.masked_fill(own, -torch.inf)
    largest = others.amax(dim=1, keepdim=True).detach()
    of_own = (scores - largest).masked_fill(~own, 0.0).sum(dim=1)
    return F.log_softmax(torch.stack([of_own, (others - largest).logsumexp(dim=1)], dim=1), dim=1)


def other_classes_kl(student: Tensor, teacher: Tensor, own: Tensor) -> Tensor:
    """Return KL (B,) between the softmaxes over all classes but the own."""

    def log_among_others(scores: Tensor) -> Tensor:
        return F.log_softmax(scores.masked_fill(own, -torch.inf), dim=1)

    student_log, teacher_log = log_among_others(student), log_among_others(teacher)
    difference = teacher_log.masked_fill(own, 0.0) - student_log.masked_fill(own, 0.0)
    return (teacher_log.exp() * difference).sum(dim=1)
