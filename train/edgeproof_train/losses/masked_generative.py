"""The teacher's map, to be restored from the student's after a part of that was hidden."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from edgeproof_configs.registry import register
from edgeproof_train.feature_loss import FeatureLoss, FeatureLossConfig, same_size
from edgeproof_train.loss import LossContext


@register("loss")
class MaskedGenerative(FeatureLoss):
    """MGD (arXiv 2205.01529): `sum (g(a(F_s) M) - F_t)^2 / B`.

    `a` is a 1x1 convolution where the channels differ, `M` hides a random part, and `g` is 3x3 convolution,
    ReLU, 3x3 convolution. `a` and `g` are learnt, and left behind when the student is exported. The larger
    map is averaged down to the smaller one first. The masks come from torch's generator.

    The paper's weights, for the sum, are 7e-5 with a channel mask of 0.15 for classifiers, and 2e-5 with a
    spatial mask of 0.65 for detectors.
    """

    class Config(FeatureLossConfig):
        """Settings.

        Attributes:
            mask: hide `channel`s of an image, or places (`spatial`) in all its channels; channels if not
                given.
            mask_ratio: chance of each of them to be hidden (lambda in the paper); 0 hides nothing.
            reduction: `sum` over a map, mean over the batch; or `mean` over both, so that the weight does
                not depend on the size of the map.
        """

        kind: Literal["masked_generative"] = "masked_generative"
        mask: Literal["channel", "spatial"] | None = None
        mask_ratio: Annotated[float, Field(ge=0, lt=1)] = 0.15
        reduction: Literal["sum", "mean"] = "sum"

        @model_validator(mode="after")
        def _something_is_hidden(self) -> MaskedGenerative.Config:
            if self.mask is not None and self.mask_ratio == 0:
                raise ValueError("mask has no effect with mask_ratio 0, which hides nothing")
            return self

    def __init__(self, config: Any, context: LossContext):
        super().__init__(config, context)
        channels = [(student[0], teacher[0]) for student, teacher in self.shapes]
        self.align = nn.ModuleList(nn.Identity() if s == t else nn.Conv2d(s, t, 1) for s, t in channels)
        self.generators = nn.ModuleList(generator(teacher) for _, teacher in channels)

    def compare(self, pair: int, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the loss of one pair, at least 0, and not 0 for equal maps."""
        student, teacher = same_size(student, teacher)
        aligned = self.align[pair](student)
        squared = (self.generators[pair](aligned * self.kept(aligned)) - teacher).square()
        return squared.mean() if self.config.reduction == "mean" else squared.sum() / len(squared)

    def kept(self, aligned: Tensor) -> Tensor:
        """Return a mask of 0 and 1, (B, C, 1, 1) or (B, 1, H, W)."""
        batch, channels, height, width = aligned.shape
        spatial = self.config.mask == "spatial"
        shape = (batch, 1, height, width) if spatial else (batch, channels, 1, 1)
        return (torch.rand(shape, device=aligned.device) >= self.config.mask_ratio).to(aligned.dtype)


def generator(channels: int) -> nn.Sequential:
    """Return the layers that restore a map."""
    return nn.Sequential(
        nn.Conv2d(channels, channels, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(channels, channels, 3, padding=1),
    )
