"""The teacher's own classifier, kept as it is, judges the student's features."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator
from torch import Tensor
from torch.nn import functional as F

from edgeproof_configs.errors import UsageError
from edgeproof_configs.registry import register
from edgeproof_configs.schema import Fraction, LossConfig, PositiveFloat, PositiveInt
from edgeproof_data.paths import resolve_path
from edgeproof_train.fixed_head import FixedHead, head_losses, read_classifier
from edgeproof_train.loss import Loss, LossContext, check_widths, embeddings_of, fp32_island, unit
from edgeproof_train.outputs import StepOutputs

TEACHER = "teacher"
SCALE, MARGIN, TEMPERATURE = 32.0, 0.1, 4.0
LABEL, TAUGHT, WORDS = "batch.label", "teacher.embedding", "text_embeddings"


@register("loss")
class FixedHeadLoss(Loss):
    """`c CE(z_s, y) + k T^2 KL(softmax(z_t / T) || softmax(z_s / T))` under one frozen classifier W (K, D).

    `cosine`: z_j = s cos(e, W_j), and in the cross-entropy s (cos - m) for the image's own class (CosFace,
    arXiv 1801.09414). `linear`: z_j = e . W_j + b_j. Neither the divergence nor evaluation has a margin. The
    student learns features that fit the classifier, so they must be as wide as the teacher's. Classes are
    met in chunks: hundreds of thousands of them fit into memory (`edgeproof_train.fixed_head`). Images
    without a label are left out of the cross-entropy.
    """

    class Config(LossConfig):
        """Settings.

        Attributes:
            classifier: .safetensors file with W and perhaps b, or .npy file with W, in the order of the
                data's classes; `teacher` for the classifier of the teacher; None for the head's words.
            form: `cosine` or `linear`.
            scale: s of `cosine`; 32 if not given.
            margin: m of `cosine`, a difference of cosines; 0.1 if not given.
            temperature: T; 4 if not given.
            ce_weight: c; 0 leaves the labels out.
            kl_weight: k; 0 leaves the teacher out.
            chunk: classes at once; chosen for little memory if not given.
        """

        kind: Literal["fixed_head"] = "fixed_head"
        classifier: str | None = None
        form: Literal["cosine", "linear"] = "cosine"
        scale: PositiveFloat | None = None
        margin: Fraction | None = None
        temperature: PositiveFloat | None = None
        ce_weight: float = Field(default=1.0, ge=0)
        kl_weight: float = Field(default=1.0, ge=0)
        chunk: PositiveInt | None = None

        @model_validator(mode="after")
        def _everything_has_an_effect(self) -> FixedHeadLoss.Config:
            if not self.ce_weight and not self.kl_weight:
                raise ValueError("ce_weight and kl_weight are both 0: nothing is left")
            if self.form == "linear" and (self.scale is not None or self.margin is not None):
                raise ValueError("scale and margin have no effect on form: linear")
            if self.margin is not None and not self.ce_weight:
                raise ValueError("margin has no effect without ce_weight")
            if self.temperature is not None and not self.kl_weight:
                raise ValueError("temperature has no effect without kl_weight")
            return self

    needs: ClassVar[tuple[str, ...]] = ("student.embedding", TAUGHT, LABEL, WORDS)
    same_width: ClassVar[bool] = False
    one_label: ClassVar[bool] = True
    row_of_class: Tensor | None

    def __init__(self, config: Any, context: LossContext):
        super().__init__(config, context)
        if config.kl_weight:
            check_widths(config.kind, context)
        weight, bias = classifier_of(config, context)
        check_shape(config, weight, context)
        if config.form == "cosine":
            self.head = FixedHead.of_cosines(weight, config.scale or SCALE)
        else:
            self.head = FixedHead(weight, bias)
        rows = context.class_to_text if config.classifier is None else None
        # One row more, so that a label of -1 picks the last one: no words.
        rows = None if rows is None else F.pad(rows.long(), (0, 1), value=-1)
        self.register_buffer("row_of_class", rows, persistent=False)

    @classmethod
    def needs_of(cls, config: Any) -> tuple[str, ...]:
        """Return the needs without those of a part whose weight is 0, and without words if there is W."""
        left_out = {
            *(() if config.kl_weight else (TAUGHT,)),
            *(() if config.ce_weight else (LABEL,)),
            *(() if config.classifier is None else (WORDS,)),
        }
        return tuple(need for need in cls.needs if need not in left_out)

    @fp32_island
    def forward(self, outputs: StepOutputs) -> Tensor:
        """Return the loss, at least 0."""
        config, student, teacher, label = self.config, outputs.student.embedding, None, None
        self.head = self.head.to(student.device)
        if config.kl_weight:
            student, teacher = embeddings_of(config.kind, outputs)
        if config.ce_weight:
            label = outputs.label if self.row_of_class is None else self.row_of_class[outputs.label]
        cosine = config.form == "cosine"
        margin = MARGIN if config.margin is None else config.margin
        temperature = config.temperature or TEMPERATURE
        entropy, divergence = head_losses(
            unit(student) if cosine else student,
            self.head,
            teacher_BD=unit(teacher) if cosine and teacher is not None else teacher,
            label_B=label,
            temperature=temperature,
            margin=(config.scale or SCALE) * margin if cosine else 0.0,
            chunk=config.chunk,
        )
        total = config.kl_weight * temperature**2 * divergence.mean()
        if label is None:
            return total
        return total + config.ce_weight * entropy.sum() / (label >= 0).sum().clamp_min(1)


def classifier_of(config: Any, context: LossContext) -> tuple[Tensor, Tensor | None]:
    """Return weight (K, D) and bias (K,) or None, as the settings say.

    Raises:
        EdgeproofError: the file cannot be read, the teacher has no classifier, or there is a bias to cosines.
    """
    if config.classifier is None:
        return context.text_rows(), None
    if config.classifier == TEACHER:
        found = context.teacher_head
        if found is None:
            raise UsageError(
                "fixed_head: the teacher has no linear classifier",
                where="losses",
                fix="name a file: classifier: FILE.safetensors, or leave it away for the head's words",
            )
        weight, bias = found.weight.detach(), None if found.bias is None else found.bias.detach()
    else:
        weight, bias = read_classifier(resolve_path(config.classifier, None))
    if bias is not None and config.form == "cosine":
        raise UsageError(
            "fixed_head: the classifier has a bias, which cosines have no use for",
            where=config.classifier,
            fix="set form: linear",
        )
    return weight, bias


def check_shape(config: Any, weight: Tensor, context: LossContext) -> None:
    """Refuse a classifier for features of another width, or for other classes than those of the labels.

    Raises:
        UsageError: it does not fit.
    """
    shape = tuple(weight.shape)
    if shape[1] != context.student_dim:
        raise UsageError(
            f"fixed_head: the classifier is {shape}, the student's embedding (B, {context.student_dim})",
            where="losses",
            fix=f"take a student and a teacher of {shape[1]} features",
        )
    if not config.ce_weight:
        return
    if config.classifier is not None and shape[0] != context.num_classes:
        raise UsageError(
            f"fixed_head: the classifier tells {shape[0]} classes apart, the data have {context.num_classes}",
            where="losses",
            fix="give a classifier of these classes, or set ce_weight: 0",
        )
    rows = context.class_to_text
    if config.classifier is None and (rows is None or not (rows >= 0).any()):
        raise UsageError(
            "fixed_head: none of the training classes is among the head's words",
            where="losses",
            fix="use the class names as labels of the head, or set ce_weight: 0",
        )
