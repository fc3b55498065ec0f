"""Each image ought to find the text of its label among those of the batch, and the text its image."""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from edgeproof_configs.registry import register
from edgeproof_configs.schema import LossConfig
from edgeproof_train.label_text import LabelText, symmetric_kl_of_rows
from edgeproof_train.loss import Loss, LossContext, fp32_island, unit
from edgeproof_train.outputs import StepOutputs

LARGEST_SCALE = 100.0
NO_PAIR = -1e4
"""Log-probability of a pair of unequal texts; its exponential is 0 in every precision."""


@register("loss")
class ClipContrastive(Loss):
    """ICL of CLIP-KD (arXiv 2307.12732): InfoNCE of the student's images against the teacher's texts.

    With unit embeddings `v` of N images, the text embeddings `u` of their labels and `A = s v u'` (N, N), it
    is the mean over rows and columns of `KL(q || softmax(A))`, where `q` is spread evenly over the pairs of
    equal text: two images of one class are no negatives of each other. Where all texts differ, that is the
    cross entropy of CLIP; elsewhere it is the cross entropy less the entropy of q, so that images of one
    class alone cost nothing. Images without a label, or of a class without words, are left out.
    """

    class Config(LossConfig):
        """Settings.

        Attributes:
            logit_scale: s; its start value where it is learnt, CLIP's 1 / 0.07 unless told.
            learn_logit_scale: train log(s), kept at or below log(100) as CLIP does.
        """

        kind: Literal["clip_contrastive"] = "clip_contrastive"
        logit_scale: Annotated[float, Field(gt=0, le=LARGEST_SCALE)] = 1 / 0.07
        learn_logit_scale: bool = True

    needs: ClassVar[tuple[str, ...]] = ("student.embedding", "batch.label", "text_embeddings")
    depends_on_batch: ClassVar[bool] = True
    one_label: ClassVar[bool] = True

    def __init__(self, config: Any, context: LossContext):
        super().__init__(config, context)
        self.words = LabelText(config.kind, context)
        start = torch.tensor(math.log(config.logit_scale))
        self.log_scale = nn.Parameter(start) if config.learn_logit_scale else None

    @fp32_island
    def forward(self, outputs: StepOutputs) -> Tensor:
        """Return the loss, at least 0; 0 for a batch of one text."""
        student = outputs.student.embedding
        chosen, row, text = self.words(outputs.label)
        scores_NN = self.scale() * (unit(student[chosen]) @ text.to(student.dtype).T)
        pair_NN = row[:, None] == row[None, :]
        target_NN = torch.zeros_like(scores_NN).masked_fill(~pair_NN, NO_PAIR)
        return symmetric_kl_of_rows(target_NN, scores_NN)

    def scale(self) -> Tensor | float:
        """Return s."""
        if self.log_scale is None:
            return self.config.logit_scale
        return self.log_scale.clamp_max(math.log(LARGEST_SCALE)).exp()
