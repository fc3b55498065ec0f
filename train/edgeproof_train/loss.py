"""The base of every loss: one weighted term of what a student is trained to make small."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, ClassVar, TypeVar, cast

import torch
from torch import Tensor, nn

from edgeproof_configs.errors import UsageError
from edgeproof_configs.schema import LossConfig
from edgeproof_train.outputs import StepOutputs
from edgeproof_train.text import TextSpec

Forward = TypeVar("Forward", bound=Callable[..., Tensor])


@dataclass(frozen=True)
class LossContext:
    """What a loss may ask for when it is built.

    Attributes:
        student_dim: width of the student's embedding.
        teacher_dim: width of the teacher's embedding; None without a teacher.
        num_classes: how many classes the training images are labelled with; 0 if they have no labels.
        text: returns unit rows (K, D) for the words of a spec, or for the head's own words if it is given
            None; None where there are no text embeddings at all.
        class_to_text: int64 (num_classes,): row of each class in the head's words, -1 where it has none.
        class_scores: whether the space that student and teacher share is that of class scores: their
            `embedding` then is their `logits`.
        student_features: shape without the batch, (C, H, W), of each of the student's nodes that was asked
            for.
        teacher_features: likewise of the teacher.
        teacher_head: the teacher's own linear classifier on its embedding, frozen; None where it has none.
        parts: width of each teacher's part where several teachers' embeddings stand side by side.
        part_weights: how much each of those teachers counts, with a sum of 1.
        student_tokens: shape without the batch, (1 + P, D), of the student's tokens, the global one first;
            None where it gives none.
        teacher_tokens: likewise of the teacher.
    """

    student_dim: int
    teacher_dim: int | None = None
    num_classes: int = 0
    text: Callable[[TextSpec | None], Tensor] | None = None
    class_to_text: Tensor | None = None
    class_scores: bool = False
    student_features: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    teacher_features: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    teacher_head: nn.Linear | None = None
    parts: tuple[int, ...] = ()
    part_weights: tuple[float, ...] = ()
    student_tokens: tuple[int, int] | None = None
    teacher_tokens: tuple[int, int] | None = None

    def supplies(self) -> set[str]:
        """Return the names of all needs that can be met."""
        met = {"student.embedding"}
        if self.teacher_dim is not None:
            met.add("teacher.embedding")
        if self.num_classes > 0:
            met.add("batch.label")
        if self.text is not None:
            met.add("text_embeddings")
        if self.class_scores:
            met |= {"student.logits", "student.second"}
        if self.class_scores and self.teacher_dim is not None:
            met.add("teacher.logits")
        if self.student_tokens is not None:
            met.add("student.tokens")
        if self.teacher_tokens is not None:
            met.add("teacher.tokens")
        met |= {f"student.features[{node}]" for node in self.student_features}
        met |= {f"teacher.features[{node}]" for node in self.teacher_features}
        return met

    def text_rows(self, spec: TextSpec | None = None) -> Tensor:
        """Return the unit rows (K, D) of a spec's words, or of the head's.

        Raises:
            UsageError: they are not as wide as the student's embedding.
        """
        if self.text is None:
            raise ValueError("this context has no text embeddings: declare the need 'text_embeddings'")
        rows = self.text(spec)
        if rows.shape[1] != self.student_dim:
            raise UsageError(
                f"text embeddings are {tuple(rows.shape)}, the student's are (B, {self.student_dim})",
                where="losses",
                fix="give text embeddings of the teacher that the student learns from",
            )
        return rows.detach().float()


class Loss(nn.Module, ABC):
    """One term. A subclass has a `Config`, says what it needs, and decorates `forward` with `fp32_island`.

    Trainable parts (a classifier, a projector) are modules of the loss: they are optimised, averaged,
    saved and resumed with the student, and are not part of what is exported.

    Attributes:
        needs: of `student.embedding`, `student.logits`, `student.second`, `student.tokens`,
            `student.features[NODE]`, likewise of `teacher` but for `second`, `batch.label`,
            `text_embeddings`. What depends on the settings is told by `needs_of`.
        same_width: whether it compares student and teacher value by value, so that their widths must be
            equal.
        depends_on_batch: whether the value of a batch is something else than the mean over its images.
            Such a loss cannot be accumulated over smaller batches, and under `torchrun` compares the
            images of each process, or of all where `train.gather` is on.
        one_label: whether every image must have one label of its own, so that mixed images are refused.
    """

    Config: ClassVar[type[LossConfig]]
    needs: ClassVar[tuple[str, ...]]
    same_width: ClassVar[bool] = True
    depends_on_batch: ClassVar[bool] = False
    one_label: ClassVar[bool] = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        forward = cls.__dict__.get("forward")
        if forward is not None and not getattr(forward, "in_fp32_island", False):
            raise TypeError(f"{cls.__name__}.forward must be decorated with @fp32_island")

    def __init__(self, config: Any, context: LossContext):
        super().__init__()
        self.config = config
        if self.same_width and {"student.embedding", "teacher.embedding"} <= set(self.needs):
            check_widths(config.kind, context)

    @classmethod
    def needs_of(cls, config: Any) -> tuple[str, ...]:
        """Return what a loss with these settings needs; feature losses add the nodes they name."""
        del config
        return cls.needs

    @classmethod
    def why_not_top_k(cls, config: Any) -> str:
        """Return why a loss with these settings cannot learn from a teacher's k largest probabilities alone.

        Empty if it can: then it finds them as `outputs.teacher.top` where they are all that is stored.
        """
        del config
        return "it looks at the teacher's scores of all classes"

    def epoch_figures(self) -> dict[str, float]:
        """Return what else is to be written down about the batches since it was last asked; forget them."""
        return {}

    @abstractmethod
    def forward(self, outputs: StepOutputs) -> Tensor:
        """Return the loss of a batch, a float32 scalar, not yet weighted."""


def fp32_island(forward: Forward) -> Forward:
    """Decorate a loss's `forward`: its inputs are float32 (or float64) and autocast is off inside.

    Norms, Gram matrices and sums over many classes overflow float16 (65,504) or lose their epsilon in it.
    """

    @wraps(forward)
    def guarded(self: Any, outputs: StepOutputs) -> Tensor:
        device = outputs.device.type
        off = torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else nullcontext()
        with off:
            return forward(self, outputs.full_precision())

    guarded.__dict__["in_fp32_island"] = True
    return cast("Forward", guarded)


def check_needs(losses: Mapping[str, Sequence[str]], context: LossContext) -> None:
    """Refuse losses that ask for what is not there, before any image is read.

    Args:
        losses: what each loss needs, by name.
        context: what there is.

    Raises:
        UsageError: a need of a loss is not met.
    """
    met = context.supplies()
    advice = {
        "teacher.embedding": "there is no teacher",
        "batch.label": "the training images have no labels",
        "text_embeddings": "there are no text embeddings: the recipe's head has no words",
        "student.logits": "the student gives embeddings; class scores come with head: {kind: classifier}",
        "student.second": "only a student of class scores is run twice; set head: {kind: classifier}",
        "teacher.logits": "the teacher gives no class scores here; they come with head: {kind: classifier}",
        "student.tokens": "this student gives none; kind mv_alexnet does, or multi_view with tokens: true",
        "teacher.tokens": "this teacher gives none; transformers of kind open_clip and timm do",
    }
    for name, needs in losses.items():
        for need in needs:
            if need not in met:
                reason = advice.get(need, f"this recipe supplies {', '.join(sorted(met))}")
                fix = f"remove {name} from losses"
                raise UsageError(f"{name} needs {need}: {reason}", where="losses", fix=fix)


def nodes_of(needs: Mapping[str, Sequence[str]], side: str) -> tuple[str, ...]:
    """Return the nodes of `student` or `teacher` that losses name, each once, in their order."""
    prefix = f"{side}.features["
    found = [
        need[len(prefix) : -1] for wanted in needs.values() for need in wanted if need.startswith(prefix)
    ]
    return tuple(dict.fromkeys(found))


def check_widths(name: str, context: LossContext) -> None:
    """Refuse a student whose embedding cannot be compared with the teacher's, value by value.

    Raises:
        UsageError: the widths differ.
    """
    if context.student_dim != context.teacher_dim:
        fix = f"give the student a head of {context.teacher_dim} outputs: its head is the projector"
        if context.parts:
            fix = "use multi_teacher, which maps the student to each teacher, or set teacher.space: all"
        raise UsageError(
            f"{name}: the student's embedding is (B, {context.student_dim}),"
            f" the teacher's (B, {context.teacher_dim})",
            where="losses",
            fix=fix,
        )


def embeddings_of(name: str, outputs: StepOutputs) -> tuple[Tensor, Tensor]:
    """Return the student's and the teacher's embedding, both (B, D), the teacher's without gradient.

    Raises:
        ValueError: their shapes differ.
    """
    student, teacher = outputs.student.embedding, outputs.teacher.embedding
    if student.shape != teacher.shape:
        raise ValueError(
            f"{name}: student {tuple(student.shape)} and teacher {tuple(teacher.shape)} differ; "
            f"a head of {teacher.shape[-1]} outputs on the student would make them equal"
        )
    return student, teacher.detach()


def unit(tensor: Tensor) -> Tensor:
    """Return rows divided by their length (at least 1e-12, in full precision)."""
    return nn.functional.normalize(tensor, dim=-1, eps=1e-12)
