"""A frozen classifier with very many classes, and its losses without ever holding all class scores.

`W` is (K, D). With K = 252,903 and a batch of 256 one matrix of scores is 259 MB, and the plain computation
of cross-entropy and Kullback-Leibler divergence holds several of them. Here the classes are met in chunks,
once forward and once backward, and only sums over them are kept, a few numbers for each image. The gradient
goes to the student's features alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from edgeproof_configs.errors import DataError
from edgeproof_train.arrays import open_rows
from edgeproof_train.outputs import at_least_float32
from edgeproof_train.weights import read_weights

CHUNK_VALUES = 2**22
"""Of a chunk's scores, and of its rows of W, at most; 16 MB in float32."""


@dataclass(frozen=True)
class FixedHead:
    """Scores `z_j = gain_j (x . W_j) + bias_j` of features x, by weights that nothing changes.

    It is no module, as a teacher is none: checkpoints, averages and optimizers do not find it.

    Attributes:
        weight: (K, D), float16 to float64. Chunks are widened to the features' type as they are met.
        bias: (K,), or None.
        gain: (K,), or None; the scale divided by the length of W_j where cosines are scored.
    """

    weight: Tensor
    bias: Tensor | None = None
    gain: Tensor | None = None

    @classmethod
    def of_cosines(cls, weight: Tensor, scale: float) -> FixedHead:
        """Return a head that scores `scale cos(x, W_j)` where x has length 1.

        Raises:
            DataError: a row of W is zero or not finite, and so has no direction.
        """
        rows = max(1, CHUNK_VALUES // weight.shape[1])
        norm = torch.cat([at_least_float32(part).norm(dim=1) for part in weight.split(rows)])
        bad = ~(norm.isfinite() & (norm > 0))
        if bad.any():
            raise DataError(
                f"{int(bad.sum())} of {len(norm)} rows of the classifier have no direction,"
                f" the first of them row {int(bad.nonzero()[0])}",
                fix="give the classifier that the teacher was trained with",
            )
        return cls(weight, gain=scale / norm)

    def to(self, device: torch.device) -> FixedHead:
        """Return the same head on a device."""
        moved = (None if part is None else part.to(device) for part in (self.bias, self.gain))
        return FixedHead(self.weight.to(device), *moved)

    def chunks(self, size: int, dtype: torch.dtype) -> Iterator[Chunk]:
        """Yield all classes in order, `size` at a time."""
        for start in range(0, len(self.weight), size):
            part = slice(start, start + size)
            rows = self.weight[part].to(dtype)
            if self.gain is not None:
                rows = rows * self.gain[part].to(dtype)[:, None]
            yield Chunk(start, rows, None if self.bias is None else self.bias[part].to(dtype))


class Chunk(NamedTuple):
    """Some classes: number of the first, rows (C, D) with the gain in them, bias (C,) or None."""

    start: int
    rows: Tensor
    bias: Tensor | None

    def scores(self, features_BD: Tensor) -> Tensor:
        """Return z (B, C)."""
        product = features_BD @ self.rows.T
        return product if self.bias is None else product.add_(self.bias)

    def place(self, label_B: Tensor) -> tuple[Tensor, Tensor]:
        """Return which labels are of these classes, bool (B, 1), and their columns (B, 1), else 0."""
        inside = (label_B >= self.start) & (label_B < self.start + len(self.rows))
        return inside[:, None], torch.where(inside, label_B - self.start, 0)[:, None]


def chunk_classes(classes: int, batch: int, dim: int) -> int:
    """Return how many classes to meet at once, so that neither scores nor rows of W take much memory."""
    return max(1, min(classes, CHUNK_VALUES // max(batch, dim, 1)))


class Plan(NamedTuple):
    """What to compute: temperature T of the divergence, margin in units of the score, classes at once."""

    temperature: float
    margin: float
    chunk: int


def head_losses(
    student_BD: Tensor,
    head: FixedHead,
    *,
    teacher_BD: Tensor | None = None,
    label_B: Tensor | None = None,
    temperature: float = 1.0,
    margin: float = 0.0,
    chunk: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the cross-entropy and the divergence of each image under a fixed head, both (B,).

    With z the scores, `CE = lse(z - m 1_y) - (z_y - m)` (the margin of CosFace, arXiv 1801.09414) and
    `KL = KL(softmax(z_t / T) || softmax(z_s / T))`, on scores without margin, not yet times T^2. With
    a = z_s / T and b = z_t / T, `KL = sum e^b (b - a) / sum e^b - lse(b) + lse(a)`: running sums over the
    classes, each with the running maximum taken out. The backward pass meets the classes again;
    `dKL/dx = sum_j (softmax(a) - softmax(b))_j W_j / T`.

    Args:
        student_BD: features; unit vectors where the head scores cosines. Half precision is widened.
        head: on the same device.
        teacher_BD: the teacher's features, without gradient; None leaves the divergence out (0).
        label_B: int64, -1 where an image has none (its cross-entropy is 0); None leaves it out for all.
        temperature: T.
        margin: m, taken off the score of the image's own class.
        chunk: classes at once; chosen for little memory if None.
    """
    student = at_least_float32(student_BD)
    dim = head.weight.shape[1]
    for name, features in (("student", student), ("teacher", teacher_BD)):
        if features is not None and features.shape != (len(student), dim):
            raise ValueError(
                f"{name}: expected features ({len(student)}, {dim}) for a classifier"
                f" {tuple(head.weight.shape)}, got {tuple(features.shape)}"
            )
    teacher = None if teacher_BD is None else teacher_BD.detach().to(student.dtype)
    size = chunk or chunk_classes(len(head.weight), len(student), dim)
    found: Any = _HeadLosses.apply(student, teacher, label_B, head, Plan(temperature, margin, size))
    return found


class RunningSum:
    """`log sum exp` of each row, of values that are met some columns at a time."""

    def __init__(self, rows: Tensor):
        self.peak = rows.new_full((len(rows),), -math.inf)
        self.total = rows.new_zeros(len(rows))

    def add(self, values_BC: Tensor) -> tuple[Tensor, Tensor]:
        """Take in values; return what older sums must be multiplied by (B,), and `exp(values - peak)`."""
        peak = torch.maximum(self.peak, values_BC.amax(dim=1))
        fade = (self.peak - peak).exp()
        powers = (values_BC - peak[:, None]).exp_()
        self.total = self.total * fade + powers.sum(dim=1)
        self.peak = peak
        return fade, powers

    def log(self) -> Tensor:
        """Return `log sum exp` (B,)."""
        return self.peak + self.total.log()


class _HeadLosses(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, student: Tensor, teacher: Tensor | None, label: Tensor | None, head: FixedHead, plan: Plan
    ) -> tuple[Tensor, Tensor]:
        of_labels, of_student, of_teacher = (RunningSum(student) for _ in range(3))
        nothing = student.new_zeros(len(student))
        weighted = nothing
        # A label that is no class is met nowhere and leaves NaN, which the training loop reports.
        own = nothing if label is None else torch.where(label >= 0, math.nan, nothing)
        for chunk in head.chunks(plan.chunk, student.dtype):
            scores = chunk.scores(student)
            if teacher is not None:
                told = chunk.scores(teacher).div_(plan.temperature)
                said = scores / plan.temperature
                of_student.add(said)
                fade, powers = of_teacher.add(told)
                weighted = weighted * fade + powers.mul_(told.sub_(said)).sum(dim=1)
            if label is not None:
                inside, column = chunk.place(label)
                take_margin(scores, inside, column, plan.margin)
                of_labels.add(scores)
                own = torch.where(inside, scores.gather(1, column), own[:, None])[:, 0]
        sums = [one.log() for one in (of_labels, of_student, of_teacher)]
        ctx.save_for_backward(student, teacher, label, *sums)
        ctx.head, ctx.plan = head, plan
        entropy = nothing if label is None else torch.where(label >= 0, sums[0] - own, nothing)
        if teacher is None:
            return entropy, nothing.clone()
        return entropy, weighted / of_teacher.total - sums[2] + sums[1]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        entropy_grad, divergence_grad = grad_outputs
        student, teacher, label, of_labels, of_student, of_teacher = ctx.saved_tensors
        gradient = torch.zeros_like(student)
        with torch.autocast(student.device.type, enabled=False):
            for chunk in ctx.head.chunks(ctx.plan.chunk, student.dtype):
                scores = chunk.scores(student)
                if teacher is not None:
                    temperature = ctx.plan.temperature
                    wanted = chunk.scores(teacher).div_(temperature).sub_(of_teacher[:, None]).exp_()
                    shares = (scores / temperature).sub_(of_student[:, None]).exp_().sub_(wanted)
                    gradient.addmm_(shares.mul_((divergence_grad / temperature)[:, None]), chunk.rows)
                if label is not None:
                    inside, column = chunk.place(label)
                    take_margin(scores, inside, column, ctx.plan.margin)
                    shares = scores.sub_(of_labels[:, None]).exp_()
                    take_margin(shares, inside, column, 1.0)
                    pull = torch.where(label >= 0, entropy_grad, torch.zeros_like(entropy_grad))
                    gradient.addmm_(shares.mul_(pull[:, None]), chunk.rows)
        return gradient, None, None, None, None


def take_margin(scores_BC: Tensor, inside_B1: Tensor, column_B1: Tensor, margin: float) -> None:
    """Subtract a margin, in place, from the score of each image's own class if it is among these."""
    if margin:
        scores_BC.scatter_add_(1, column_B1, inside_B1.to(scores_BC.dtype).mul_(-margin))


def read_classifier(path: Path) -> tuple[Tensor, Tensor | None]:
    """Return weight (K, D) and bias (K,) or None of a classifier, in the file's own precision.

    A `.npy` file is the weight. A `.safetensors` file holds the weight as its only matrix, by any name, and
    beside it at most a vector: the bias.

    Raises:
        EdgeproofError: there is no such file, it is damaged, or it holds something else.
    """
    if path.suffix == ".npy":
        return torch.from_numpy(np.array(open_rows(path))), None
    tensors = read_weights(path, "losses: classifier")
    matrices = [value for value in tensors.values() if value.ndim == 2 and value.is_floating_point()]
    vectors = [value for value in tensors.values() if value.ndim == 1 and value.is_floating_point()]
    known = len(matrices) == 1 and len(vectors) <= 1 and len(tensors) == 1 + len(vectors)
    if not known or any(len(vector) != len(matrices[0]) for vector in vectors):
        shapes = ", ".join(f"{name} {tuple(value.shape)}" for name, value in list(tensors.items())[:4])
        raise DataError(
            f"expected a weight (K, D) and perhaps a bias (K,), got {len(tensors)} tensors: {shapes}",
            where=path,
            fix="save the classifier alone: safetensors.torch.save_file({'weight': …, 'bias': …}, FILE)",
        )
    return matrices[0], vectors[0] if vectors else None
