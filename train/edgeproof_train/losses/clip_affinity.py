"""The teacher's similarities between the images and the texts of a batch, as the student's target."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from torch import Tensor

from edgeproof_configs.registry import register
from edgeproof_configs.schema import LossConfig, PositiveFloat
from edgeproof_train.label_text import LabelText, symmetric_kl_of_rows
from edgeproof_train.loss import Loss, LossContext, embeddings_of, fp32_island, unit
from edgeproof_train.outputs import StepOutputs


@register("loss")
class ClipAffinity(Loss):
    """CRD of CLIP-KD (arXiv 2307.12732), affinity mimicking of TinyCLIP (arXiv 2309.12314).

    With unit embeddings `v` of N images and the text embeddings `u` of their labels, the affinities are
    `A = s v u'` (N, N), and the loss is `(KL(rows of A_t || rows of A_s) + the same over columns) / 2`, each
    after a softmax, mean over the batch. The texts are the teacher's for both; only the images are learnt.

    Images of one class share their text, so a column of A stands there once for each. The teacher's softmax
    has the same columns and shares its probability out among them, so they are no false negatives. Images
    without a label, or of a class that the head has no words for, are left out.
    """

    class Config(LossConfig):
        """`logit_scale`: s, what cosines are multiplied by; CLIP's own is 100, TinyCLIP takes 50."""

        kind: Literal["clip_affinity"] = "clip_affinity"
        logit_scale: PositiveFloat = 100.0

    needs: ClassVar[tuple[str, ...]] = (
        "student.embedding",
        "teacher.embedding",
        "batch.label",
        "text_embeddings",
    )
    depends_on_batch: ClassVar[bool] = True

    def __init__(self, config: Any, context: LossContext):
        super().__init__(config, context)
        self.words = LabelText(config.kind, context)

    @fp32_island
    def forward(self, outputs: StepOutputs) -> Tensor:
        """Return the loss, at least 0; 0 for a batch of one image."""
        student, teacher = embeddings_of(self.config.kind, outputs)
        chosen, _, text = self.words(outputs.label)
        student_NN, teacher_NN = (
            self.config.logit_scale * unit(v[chosen]) @ text.to(v.dtype).T for v in (student, teacher)
        )
        return symmetric_kl_of_rows(teacher_NN, student_NN)
