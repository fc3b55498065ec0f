"""The base of the losses that compare a student's class scores with a teacher's."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from edgeproof_configs.errors import UsageError
from edgeproof_configs.schema import LossConfig
from edgeproof_train.loss import Loss, LossContext
from edgeproof_train.outputs import ABSENT, StepOutputs

SMALLEST_VARIANCE = 1e-24


class LogitPairConfig(LossConfig):
    """`standardise`: bring each row of class scores, the teacher's and the student's, to mean 0 and std 1.

    The student then need not match the size of the teacher's scores, only their order and spacing
    (arXiv 2403.01427, which sets a temperature of 2 and a weight of 9). It concerns this term alone: a label
    loss beside it sees the scores as they are.
    """

    standardise: bool = False


class LogitPairLoss(Loss):
    """A loss whose class needs at least `student.logits` and `teacher.logits`, of the same classes."""

    def __init__(self, config: Any, context: LossContext):
        super().__init__(config, context)
        check_classes(config.kind, context)

    def scores(self, outputs: StepOutputs) -> tuple[Tensor, Tensor]:
        """Return the student's and the teacher's class scores, both (B, K), standardised if told so."""
        student, teacher = logits_of(self.config.kind, outputs)
        if self.config.standardise:
            return standardised(student), standardised(teacher)
        return student, teacher


def logits_of(name: str, outputs: StepOutputs) -> tuple[Tensor, Tensor]:
    """Return the student's and the teacher's class scores, both (B, K), the teacher's without gradient.

    Raises:
        ValueError: their shapes differ, or only the teacher's largest probabilities are there.
    """
    student, teacher = outputs.student.logits, outputs.teacher.logits
    if teacher is ABSENT:
        raise ValueError(f"{name}: the teacher's class scores are not there, or only the largest of them")
    if student.shape != teacher.shape:
        shapes = f"student {tuple(student.shape)} and teacher {tuple(teacher.shape)} differ"
        raise ValueError(f"{name}: {shapes}; both must score the same classes")
    return student, teacher.detach()


def check_classes(name: str, context: LossContext) -> None:
    """Refuse class scores that cannot be compared.

    Raises:
        UsageError: student and teacher score another number of classes, or only one.
    """
    if context.student_dim != context.teacher_dim:
        raise UsageError(
            f"{name}: the student's class scores are (B, {context.student_dim}),"
            f" the teacher's (B, {context.teacher_dim})",
            where="losses",
            fix=f"take a teacher of the {context.student_dim} classes that the student is trained on",
        )
    if context.student_dim < 2:
        raise UsageError(
            f"{name}: there is {context.student_dim} class, and it always has a probability of 1",
            where="losses",
            fix="give training images of at least two classes",
        )


def standardised(logits: Tensor) -> Tensor:
    """Return rows (B, K) as `(z - mean) / (std + 1e-7)`; a row whose values are all equal becomes zeros.

    The standard deviation is the unbiased one, over K - 1, as in the authors' code.
    """
    # Less the largest first: a row of equal large values then is exactly zero and not rounding noise.
    shifted = logits - logits.amax(dim=1, keepdim=True).detach()
    centred = shifted - shifted.mean(dim=1, keepdim=True)
    variance = centred.square().sum(dim=1, keepdim=True) / (logits.shape[1] - 1)
    # A row with no spread is taken out before the root, whose gradient at 0 is infinite.
    spread = variance > SMALLEST_VARIANCE
    deviation = torch.where(spread, variance, 1.0).sqrt()
    return torch.where(spread, centred / (deviation + 1e-7), 0.0)
