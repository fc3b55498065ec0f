"""Correlation with the teacher's class probabilities, over classes and over images (DIST)."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from edgeproof_configs.registry import register
from edgeproof_configs.schema import PositiveFloat
from edgeproof_train.logit_pair import LogitPairConfig, LogitPairLoss
from edgeproof_train.loss import fp32_island
from edgeproof_train.outputs import StepOutputs

SMALLEST_LENGTH = 1e-8
ROUNDING = 1e-6


@register("loss")
class DIST(LogitPairLoss):
    """`tau^2 (beta (1 - mean_i r(p_s[i], p_t[i])) + gamma (1 - mean_k r(p_s[:, k], p_t[:, k])))`.

    `p` is `softmax(z / tau)` and `r` Pearson's correlation: of the classes of an image, and of the images of
    a batch in a class (arXiv 2205.10536). Probabilities may differ in scale and offset, so a student can
    learn from a teacher that is far surer than itself. The second part depends on which images share a
    batch. A row or column that does not vary counts as uncorrelated and has no gradient: a head that starts
    at zero learns nothing from this term alone.
    """

    class Config(LogitPairConfig):
        """Settings.

        Attributes:
            beta: weight of the correlation over classes.
            gamma: weight of the correlation over images.
            tau: temperature of both; the authors take 1 on ImageNet and 4 on CIFAR-100.
        """

        kind: Literal["dist"] = "dist"
        beta: Annotated[float, Field(ge=0)] = 1.0
        gamma: Annotated[float, Field(ge=0)] = 1.0
        tau: PositiveFloat = 1.0

        @model_validator(mode="after")
        def _something_is_compared(self) -> DIST.Config:
            if not self.beta and not self.gamma:
                raise ValueError("beta and gamma are both 0: nothing would be compared")
            return self

    needs: ClassVar[tuple[str, ...]] = ("student.logits", "teacher.logits")
    depends_on_batch: ClassVar[bool] = True

    @fp32_island
    def forward(self, outputs: StepOutputs) -> Tensor:
        """Return the loss, 0 to `2 tau^2 (beta + gamma)`.

        Raises:
            ValueError: there is one image only, and `gamma` compares images.
        """
        student, teacher = ((z / self.config.tau).softmax(dim=1) for z in self.scores(outputs))
        if self.config.gamma and len(student) < 2:
            raise ValueError(
                "dist: a batch of 1 image has no correlation over images; take 2 or more, or gamma: 0"
            )
        loss = student.new_zeros(())
        if self.config.beta:
            loss = loss + self.config.beta * (1 - correlation(student, teacher).mean())
        if self.config.gamma:
            loss = loss + self.config.gamma * (1 - correlation(student.T, teacher.T).mean())
        return loss * self.config.tau**2


def correlation(first: Tensor, second: Tensor) -> Tensor:
    """Return Pearson's correlation of each row of one (N, M) with the same row of the other: (N,)."""
    return (directions(first) * directions(second)).sum(dim=1)


def directions(rows: Tensor) -> Tensor:
    """Return rows (N, M) less their mean, at unit length; a row that does not vary becomes zeros."""
    centred = rows - rows.mean(dim=1, keepdim=True)
    squared = centred.square().sum(dim=1, keepdim=True)
    # What rounding leaves of equal values has no direction, and its gradient would drown all others.
    noise = (ROUNDING * rows).square().sum(dim=1, keepdim=True).clamp_min(SMALLEST_LENGTH**2)
    varies = squared > noise
    return torch.where(varies, centred / torch.where(varies, squared, 1.0).sqrt(), 0.0)
