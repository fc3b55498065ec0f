"""Squared distance between tokens."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from torch import Tensor
from torch.nn import functional as F

from edgeproof_configs.errors import UsageError
from edgeproof_configs.registry import register
from edgeproof_configs.schema import LossConfig
from edgeproof_train.loss import Loss, LossContext, fp32_island
from edgeproof_train.outputs import StepOutputs


@register("loss")
class TokenMSE(Loss):
    """Mean over batch, tokens and dimensions of `(t_s - t_t)^2`; the global token is one of 1 + P.

    Tokens are compared as they are. Those that a teacher pools over the views of an object are means, or
    maxima, of unit vectors, so that a difference of direction d costs about `2 (1 - cos d) / D`: weights in
    the thousands are not too large.
    """

    class Config(LossConfig):
        """No settings beside the weight."""

        kind: Literal["token_mse"] = "token_mse"

    needs: ClassVar[tuple[str, ...]] = ("student.tokens", "teacher.tokens")

    def __init__(self, config: Any, context: LossContext):
        super().__init__(config, context)
        student, teacher = context.student_tokens, context.teacher_tokens
        if student != teacher:
            raise UsageError(
                f"{config.kind}: the student's tokens are {student}, the teacher's {teacher}",
                where="losses",
                fix="choose a student with as many places of the same width, or the loss relation,"
                " which takes any number of places",
            )

    @fp32_island
    def forward(self, outputs: StepOutputs) -> Tensor:
        """Return the loss, at least 0."""
        return F.mse_loss(outputs.student.tokens, outputs.teacher.tokens.detach())
