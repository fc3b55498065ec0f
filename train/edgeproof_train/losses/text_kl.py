"""What the teacher says about a vocabulary, as the target of what the student says."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import model_validator
from torch import Tensor
from torch.nn import functional as F

from edgeproof_configs.registry import register
from edgeproof_configs.schema import LossConfig, PositiveFloat
from edgeproof_train.loss import Loss, LossContext, embeddings_of, fp32_island, unit
from edgeproof_train.outputs import StepOutputs
from edgeproof_train.text import TextSpec


@register("loss")
class TextKL(Loss):
    """`T^2 KL(softmax(s e_t t' / T) || softmax(s e_s t' / T))`, summed over the words, mean over the batch.

    `e` are unit embeddings, `t` the unit text embeddings of a vocabulary, `s` the logit scale and `T` the
    temperature. Needs no labels, and the vocabulary need not be the one that the student is shipped with:
    many words say more about an image than few. T^2 keeps the size of the gradient when the temperature
    changes (arXiv 1503.02531).
    """

    class Config(LossConfig):
        """The vocabulary is the head's unless `labels` or `text_embeddings` name another.

        Attributes:
            temperature: T.
            logit_scale: s, what cosines are multiplied by; CLIP's own is 100.
            labels: file with one word a line.
            templates: name of a set of prompt templates for these words.
            text_embeddings: .npy (K, D) with a row for each word, in place of the teacher's text tower.
        """

        kind: Literal["text_kl"] = "text_kl"
        temperature: PositiveFloat = 1.0
        logit_scale: PositiveFloat = 100.0
        labels: str | None = None
        templates: str | None = None
        text_embeddings: str | None = None

        @model_validator(mode="after")
        def _words_are_complete(self) -> TextKL.Config:
            own = self.labels is not None or self.text_embeddings is not None
            if self.templates is not None and not own:
                raise ValueError("templates has no effect without labels: the head's words have the head's")
            self.text_spec()
            return self

        def text_spec(self) -> TextSpec | None:
            """Return the words of its own, or None for the head's."""
            if self.labels is None and self.text_embeddings is None:
                return None
            templates = self.templates or "plain"
            return TextSpec(labels=self.labels, templates=templates, text_embeddings=self.text_embeddings)

    needs: ClassVar[tuple[str, ...]] = ("student.embedding", "teacher.embedding", "text_embeddings")
    text: Tensor

    def __init__(self, config: Any, context: LossContext):
        super().__init__(config, context)
        self.register_buffer("text", context.text_rows(config.text_spec()), persistent=False)

    @fp32_island
    def forward(self, outputs: StepOutputs) -> Tensor:
        """Return the loss, at least 0."""
        student, teacher = embeddings_of(self.config.kind, outputs)
        student_log, teacher_log = (F.log_softmax(self.scores(e), dim=-1) for e in (student, teacher))
        divergence = F.kl_div(student_log, teacher_log, reduction="batchmean", log_target=True)
        return divergence * self.config.temperature**2

    def scores(self, embedding: Tensor) -> Tensor:
        """Return scaled cosines (B, K) to all words, divided by the temperature."""
        scale = self.config.logit_scale / self.config.temperature
        return scale * unit(embedding) @ self.text.to(embedding.dtype).T
