"""The zero-shot classifier's own error on labelled images."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, ClassVar, Literal

import torch
from pydantic import model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from edgeproof_configs.registry import register
from edgeproof_configs.schema import PositiveFloat
from edgeproof_train.label_targets import LabelLossConfig, label_targets, mean_over
from edgeproof_train.label_text import LabelText
from edgeproof_train.loss import Loss, LossContext, fp32_island, unit
from edgeproof_train.outputs import Mix, StepOutputs

LARGEST_SCALE = 100.0


@register("loss")
class TextCrossEntropy(Loss):
    """`CE(s e_s t', y)`: scaled cosines to the head's words against the row of the label.

    Mixed images are learnt as `share CE(y) + (1 - share) CE(partner)`. Images without a label, and images of
    a class that the head has no words for, are left out of the mean. A batch with none left gives 0 (with a
    zero gradient).
    """

    class Config(LabelLossConfig):
        """Settings, beside the share of the target that is spread over all words.

        Attributes:
            logit_scale: s; its start value where it is learnt.
            learn_logit_scale: train log(s), kept at or below log(100) as CLIP does.
        """

        kind: Literal["text_cross_entropy"] = "text_cross_entropy"
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

    def __init__(self, config: Any, context: LossContext):
        super().__init__(config, context)
        self.words = LabelText(config.kind, context)
        start = torch.tensor(math.log(config.logit_scale))
        self.log_scale = nn.Parameter(start) if config.learn_logit_scale else None

    @fp32_island
    def forward(self, outputs: StepOutputs) -> Tensor:
        """Return the loss, at least 0."""
        embedding = outputs.student.embedding
        scores = self.scale() * (unit(embedding) @ self.words.text.to(embedding.dtype).T)
        rows = self.labelled_by_words(outputs)
        target, labelled = label_targets(rows, scores.shape[1], self.config.label_smoothing)
        return mean_over(F.cross_entropy(scores, target.to(scores.dtype), reduction="none"), labelled)

    def labelled_by_words(self, outputs: StepOutputs) -> StepOutputs:
        """Return the outputs with the head's words as labels, those of the partners too."""
        rows, mix = self.words.row_of_class, outputs.mix
        if mix is not None:
            mix = Mix(rows[mix.partner], mix.share)
        return replace(outputs, label=rows[outputs.label], mix=mix)

    def scale(self) -> Tensor | float:
        """Return s."""
        if self.log_scale is None:
            return self.config.logit_scale
        return self.log_scale.clamp_max(math.log(LARGEST_SCALE)).exp()
