"""The teacher's map itself as the target of the student's."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from edgeproof_configs.registry import register
from edgeproof_configs.schema import PositiveFloat
from edgeproof_train.feature_loss import FeatureLoss, FeatureLossConfig, mismatch, same_size
from edgeproof_train.loss import LossContext


@register("loss")
class Hint(FeatureLoss):
    """FitNets (arXiv 1412.6550): the mean over all values of `(r(F_s) - F_t)^2`.

    The regressor `r` is a learnt 1x1 convolution, which stays behind when the student is exported. The larger
    map is averaged down to the smaller one first.
    """

    class Config(FeatureLossConfig):
        """Settings.

        Attributes:
            regressor: `conv`, `conv_bn` with batch norm after it, or `none` for maps of as many channels.
            distance: `mse`, or `huber`, which is `d^2 / 2` up to `delta` and a line beyond.
            delta: of `huber`; 1 if not given.
        """

        kind: Literal["hint"] = "hint"
        regressor: Literal["conv", "conv_bn", "none"] = "conv"
        distance: Literal["mse", "huber"] = "mse"
        delta: PositiveFloat | None = None

        @model_validator(mode="after")
        def _delta_is_used(self) -> Hint.Config:
            if self.delta is not None and self.distance != "huber":
                raise ValueError("delta has no effect without distance: huber")
            return self

    def __init__(self, config: Any, context: LossContext):
        super().__init__(config, context)
        for pair, shapes in zip(self.pairs, self.shapes, strict=True):
            if config.regressor == "none" and shapes[0][0] != shapes[1][0]:
                raise mismatch(
                    *(config.kind, pair, shapes, "the channels differ"),
                    fix="set regressor: conv, a learnt 1x1 convolution between them",
                )
        self.regressors = nn.ModuleList(
            regressor(config.regressor, student[0], teacher[0]) for student, teacher in self.shapes
        )

    def compare(self, pair: int, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the loss of one pair, at least 0."""
        student, teacher = same_size(student, teacher)
        restored = self.regressors[pair](student)
        if self.config.distance == "mse":
            return F.mse_loss(restored, teacher)
        return F.huber_loss(restored, teacher, delta=self.config.delta or 1.0)


def regressor(kind: str, inputs: int, outputs: int) -> nn.Module:
    """Return the layers from the student's channels to the teacher's."""
    if kind == "none":
        return nn.Identity()
    if kind == "conv":
        return nn.Conv2d(inputs, outputs, 1)
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs))
