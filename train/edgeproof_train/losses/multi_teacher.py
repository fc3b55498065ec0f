"""Several teachers at once, each looked at through a projector of its own."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import torch
import torch.distributed as dist
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from edgeproof_configs.errors import UsageError
from edgeproof_configs.registry import register
from edgeproof_configs.schema import LossConfig, PositiveFloat
from edgeproof_train.gather import of_all
from edgeproof_train.loss import Loss, LossContext, fp32_island, unit
from edgeproof_train.outputs import StepOutputs

SMALLEST_SPREAD = 0.1
"""Least spread of a value, in units of the `1 / sqrt(D)` that directions without any order have."""


@register("loss")
class MultiTeacher(Loss):
    """`sum_i w_i (a (1 - cos(P_i e_s, t_i)) + b smooth_l1((P_i e_s / |P_i e_s| - t_i) / sigma_i))`.

    `t_i` is the unit embedding of teacher i and `P_i` a linear projector, trained with the student and not
    exported; the student lives in the first teacher's space, whose projector is the identity (multi-teacher
    distillation, arXiv 2312.06709). `sigma_i` is the standard deviation of each of the teacher's values over
    all images so far, so that teachers with narrow and with wide embeddings pull alike; the mean, which
    standardising takes off both sides, cancels. The weights are the ensemble's.

    Where the student gives all parts side by side (`teacher.space: all`) there is no projector. With a single
    teacher it is a sum of a cosine and a standardised smooth L1 term.
    """

    class Config(LossConfig):
        """What each teacher's term is made of; 0.9 and 0.1 are the paper's for features.

        Attributes:
            cosine: a.
            smooth_l1: b.
            beta: where the square of the smooth L1 term turns into a line, in standard deviations.
        """

        kind: Literal["multi_teacher"] = "multi_teacher"
        cosine: Annotated[float, Field(ge=0)] = 0.9
        smooth_l1: Annotated[float, Field(ge=0)] = 0.1
        beta: PositiveFloat = 1.0

        @model_validator(mode="after")
        def _something_is_compared(self) -> MultiTeacher.Config:
            if not self.cosine and not self.smooth_l1:
                raise ValueError("cosine and smooth_l1 are both 0: nothing would be compared")
            return self

    needs: ClassVar[tuple[str, ...]] = ("student.embedding", "teacher.embedding")
    same_width: ClassVar[bool] = False
    mean: Tensor
    variance: Tensor
    images: Tensor
    told: Tensor
    batches: Tensor

    def __init__(self, config: Any, context: LossContext):
        super().__init__(config, context)
        if context.class_scores:
            raise UsageError(
                f"{config.kind} compares embeddings, and this recipe works on class scores",
                where="losses",
                fix="use soft_target: several teachers' probabilities are averaged already",
            )
        widths = context.parts or (context.teacher_dim or context.student_dim,)
        self.widths = list(widths)
        self.weights = context.part_weights or (1 / len(widths),) * len(widths)
        self.sliced = len(widths) > 1 and context.student_dim == sum(widths)
        self.projectors = nn.ModuleList(
            nn.Identity()
            if self.sliced or (number == 0 and width == context.student_dim)
            else nn.Linear(context.student_dim, width)
            for number, width in enumerate(widths)
        )
        self.register_buffer("mean", torch.zeros(sum(widths)))
        self.register_buffer("variance", torch.zeros(sum(widths)))
        self.register_buffer("images", torch.zeros((), dtype=torch.int64))
        self.register_buffer("told", torch.zeros(len(widths)))
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))

    @fp32_island
    def forward(self, outputs: StepOutputs) -> Tensor:
        """Return the loss, at least 0.

        Raises:
            ValueError: the teacher's embedding is not as wide as its parts.
        """
        student, teacher = outputs.student.embedding, outputs.teacher.embedding.detach()
        if teacher.shape[1] != sum(self.widths):
            raise ValueError(f"multi_teacher: parts {self.widths}, the teacher's is {tuple(teacher.shape)}")
        targets = [unit(part) for part in teacher.split(self.widths, dim=1)]
        if self.training:
            self._note(torch.cat(targets, dim=1))
        given = student.split(self.widths, dim=1) if self.sliced else [student] * len(targets)
        spreads = self._spread().split(self.widths)
        pairs = zip(self.projectors, given, targets, spreads, strict=True)
        each = torch.stack([self._term(unit(project(e)), t, spread) for project, e, t, spread in pairs])
        with torch.no_grad():
            self.told += self._of_processes(each[None]).mean(dim=0)
            self.batches += 1
        return (each * each.new_tensor(self.weights)).sum()

    def epoch_figures(self) -> dict[str, float]:
        """Return the mean of each teacher's term, not weighted, since it was last asked."""
        means = (self.told / self.batches.clamp_min(1)).tolist()
        self.told.zero_()
        self.batches.zero_()
        return {f"teacher_{number}": value for number, value in enumerate(means, start=1)}

    def _term(self, student: Tensor, target: Tensor, spread: Tensor) -> Tensor:
        """Return one teacher's term for unit rows (B, D_i)."""
        angle = 1 - (student * target).sum(dim=1).mean()
        distance = F.smooth_l1_loss(student / spread, target / spread, beta=self.config.beta)
        return self.config.cosine * angle + self.config.smooth_l1 * distance

    def _spread(self) -> Tensor:
        """Return the standard deviation of each of the teachers' values, (sum of D_i,)."""
        floor = [torch.full((width,), SMALLEST_SPREAD**2 / width) for width in self.widths]
        return (self.variance + torch.cat(floor).to(self.variance)).sqrt()

    @torch.no_grad()
    def _note(self, rows: Tensor) -> None:
        """Take unit rows (B, sum of D_i) of all processes into the running mean and variance."""
        rows = self._of_processes(rows)
        count = len(rows)
        share = count / (self.images + count)
        change = rows.mean(dim=0) - self.mean
        within = rows.var(dim=0, correction=0) - self.variance
        self.mean += share * change
        self.variance += share * within + share * (1 - share) * change.square()
        self.images += count

    def _of_processes(self, rows: Tensor) -> Tensor:
        """Return rows of all processes, which all train at once; in evaluation each is on its own."""
        several = self.training and dist.is_initialized() and dist.get_world_size() > 1
        return of_all(rows) if several else rows
