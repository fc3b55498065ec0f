"""The zero-shot classifier's own error on labelled images."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

import torch
from pydantic import model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from edgeproof_configs.errors import UsageError
from edgeproof_configs.registry import register
from edgeproof_configs.schema import Fraction, LossConfig, PositiveFloat
from edgeproof_train.loss import Loss, LossContext, fp32_island, unit
from edgeproof_train.outputs import StepOutputs

LARGEST_SCALE = 100.0


@register("loss")
class TextCrossEntropy(Loss):
    """`CE(s e_s t', y)`: scaled cosines to the head's words against the row of the label.

    Images without a label, and images of a class that the head has no words for, are left out of the mean.
    A batch with none left gives 0 (with a zero gradient).
    """

    class Config(LossConfig):
        """Settings.

        Attributes:
            label_smoothing: share of the target that is spread over all words.
            logit_scale: s; its start value where it is learnt.
            learn_logit_scale: train log(s), kept at or below log(100) as CLIP does.
        """

        kind: Literal["text_cross_entropy"] = "text_cross_entropy"
        label_smoothing: Fraction = 0.0
        logit_scale: PositiveFloat = 100.0
        learn_logit_scale: bool = False

        @model_validator(mode="after")
        def _scale_can_be_learnt(self) -> TextCrossEntropy.Config:
            if self.learn_logit_scale and self.logit_scale > LARGEST_SCALE:
                raise ValueError(
                    f"learn_logit_scale starts at {LARGEST_SCALE} or below, got {self.logit_scale}"
                )
            return self

    needs: ClassVar[tuple[str, ...]] = ("student.embedding", "batch.label", "text_embeddings")
    text: Tensor
    row_of_class: Tensor

    def __init__(self, config: Any, context: LossContext):
        super().__init__(config, context)
        rows = context.class_to_text
        if rows is None or not (rows >= 0).any():
            raise UsageError(
                "text_cross_entropy: none of the training classes is among the head's words",
                where="losses",
                fix="use the class names as labels of the head, or remove text_cross_entropy",
            )
        self.register_buffer("text", context.text_rows(), persistent=False)
        # One row more, so that a label of -1 picks the last one: no words.
        self.register_buffer("row_of_class", F.pad(rows.long(), (0, 1), value=-1), persistent=False)
        start = torch.tensor(math.log(config.logit_scale))
        self.log_scale = nn.Parameter(start) if config.learn_logit_scale else None

    @fp32_island
    def forward(self, outputs: StepOutputs) -> Tensor:
        """Return the loss, at least 0."""
        embedding = outputs.student.embedding
        target = self.row_of_class[outputs.label]
        scores = self.scale() * (unit(embedding) @ self.text.to(embedding.dtype).T)
        smoothing = self.config.label_smoothing
        total = F.cross_entropy(scores, target, ignore_index=-1, reduction="sum", label_smoothing=smoothing)
        return total / (target >= 0).sum().clamp_min(1)

    def scale(self) -> Tensor | float:
        """Return s."""
        if self.log_scale is None:
            return self.config.logit_scale
        return self.log_scale.clamp_max(math.log(LARGEST_SCALE)).exp()
