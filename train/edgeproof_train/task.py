"""The one task: student, frozen teacher and weighted losses, for every recipe and stage that trains."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from edgeproof_configs.errors import UsageError
from edgeproof_configs.registry import component_class
from edgeproof_configs.schema import LossConfig
from edgeproof_train.gather import gathered
from edgeproof_train.loss import Loss, LossContext, check_needs, nodes_of
from edgeproof_train.outputs import Mix, ModelOutputs, StepOutputs
from edgeproof_train.student import Student
from edgeproof_train.supervision import Supervision
from edgeproof_train.taps import Taps

if TYPE_CHECKING:
    from edgeproof_data.loader import Batch


class DistillTask(nn.Module):
    """A batch in, one raw scalar for each loss out.

    The student may be wrapped (sparse, fake-quantised): whatever has `forward(image) -> ModelOutputs` will
    do. The losses are built and what they need is checked here, before any image is read.

    Args:
        student: the model that is trained.
        losses: the recipe's terms.
        context: what losses may ask for.
        supervision: where the teacher's outputs come from; None if no loss needs a teacher.
        gather: show losses that compare the images of a batch those of all processes.

    Attributes:
        steps_per_epoch: optimizer steps, which the loop sets: losses with `warmup_epochs` are eased in by it.

    Raises:
        UsageError: a loss needs what is not there, or its shapes cannot fit.
    """

    def __init__(
        self,
        student: Student,
        losses: Sequence[LossConfig],
        context: LossContext,
        supervision: Supervision | None = None,
        *,
        gather: bool = False,
    ):
        super().__init__()
        if isinstance(supervision, nn.Module):
            raise ValueError("supervision must not be a module: the teacher would be trained and saved")
        if context.student_dim != student.embedding_dim:
            raise ValueError(f"context is for {context.student_dim}, the student has {student.embedding_dim}")
        named = dict(zip(loss_names(losses), losses, strict=True))
        classes = {
            name: cast("type[Loss]", component_class("loss", config.kind)) for name, config in named.items()
        }
        self.needs = {name: classes[name].needs_of(config) for name, config in named.items()}
        check_needs(self.needs, context)
        self.student = student
        self.losses = nn.ModuleDict({name: classes[name](config, context) for name, config in named.items()})
        self.weights = {name: config.weight for name, config in named.items()}
        self.warmup_epochs = {name: config.warmup_epochs for name, config in named.items()}
        self.steps_per_epoch = 1
        self.gather = gather
        self.supervision = checked_supervision(supervision, self.needs, context)
        self.twice = [name for name, needs in self.needs.items() if "student.second" in needs]
        nodes = nodes_of(self.needs, "student")
        self.taps = Taps(student.module(), nodes) if nodes else None

    def forward(self, batch: Batch, step: int = 0, mix: Mix | None = None) -> dict[str, Tensor]:
        """Return every loss of a batch by name, as float32 scalars, not weighted.

        Where a loss compares two passes over the same images, the others are the means over both.

        Args:
            batch: images (B, 3, H, W) normalised for the student, or views (B, V, 3, H, W) of objects; labels
                (B,), positions in the training set (B,).
            step: optimizer steps done before this one.
            mix: how the images were mixed with each other.
        """
        teacher = self.supervision(batch) if self.supervision else ModelOutputs()
        first = self._outputs(batch["image"])
        label = batch["label"]
        outputs = StepOutputs(first, teacher, label, step, mix=mix, index=batch["index"].to(label.device))
        if not self.twice:
            return self._losses(outputs, list(self.losses))
        second = self._outputs(batch["image"])
        once = [name for name in self.losses if name not in self.twice]
        one = self._losses(outputs, once)
        other = self._losses(replace(outputs, student=second), once)
        both = self._losses(replace(outputs, second=second), self.twice)
        means = {name: (one[name] + other[name]) / 2 for name in once}
        return {name: both[name] if name in both else means[name] for name in self.losses}

    def _outputs(self, image: Tensor) -> ModelOutputs:
        found = self.student(image)
        return replace(found, features=found.features | self.taps.taken()) if self.taps else found

    def _losses(self, outputs: StepOutputs, names: Sequence[str]) -> dict[str, Tensor]:
        bound = set(self.batch_bound()) & set(names) if self.gather else set()
        whole = gathered(outputs) if bound else outputs
        return {name: self.losses[name](whole if name in bound else outputs) for name in names}

    def total(self, losses: Mapping[str, Tensor], step: int = 0) -> Tensor:
        """Return the weighted sum that is minimised.

        Args:
            losses: what `forward` returned.
            step: optimizer steps done before this one.
        """
        return torch.stack([self.weight_at(name, step) * loss for name, loss in losses.items()]).sum()

    def weight_at(self, name: str, step: int) -> float:
        """Return a term's weight at a step: it rises linearly over the term's own warm-up."""
        warmup = self.warmup_epochs[name] * self.steps_per_epoch
        return self.weights[name] * (min((step + 1) / warmup, 1.0) if warmup else 1.0)

    def batch_bound(self) -> list[str]:
        """Return the names of losses that compare the images of a batch with each other."""
        return [name for name, loss in self.losses.items() if cast("Loss", loss).depends_on_batch]

    def epoch_figures(self) -> dict[str, dict[str, float]]:
        """Return what losses tell beside their value, by name, about the batches since it was last asked."""
        told = {name: cast("Loss", loss).epoch_figures() for name, loss in self.losses.items()}
        return {name: figures for name, figures in told.items() if figures}

    def loss_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield the named trainable parts of the losses."""
        return self.losses.named_parameters(prefix="losses")


def checked_supervision(
    supervision: Supervision | None, needs: Mapping[str, Sequence[str]], context: LossContext
) -> Supervision | None:
    """Return the supervision, or None where no loss looks at the teacher, which then is not asked at all."""
    wanting = [name for name, wanted in needs.items() if any(need.startswith("teacher.") for need in wanted)]
    if supervision is None and wanting:
        raise ValueError(f"{', '.join(wanting)}: a teacher is needed and there is no supervision")
    if supervision is not None and supervision.embedding_dim != context.teacher_dim:
        raise ValueError(
            f"the context is for {context.teacher_dim} values, the teacher gives {supervision.embedding_dim}"
        )
    return supervision if wanting else None


def loss_names(losses: Sequence[LossConfig]) -> list[str]:
    """Return a name for each term: its kind, or `kind_2`, `kind_3` where a kind is there again.

    Raises:
        UsageError: there is no term.
    """
    if not losses:
        raise UsageError("there is no loss: nothing would be learnt", where="losses")
    names: list[str] = []
    for config in losses:
        again = sum(earlier.kind == config.kind for earlier in losses[: len(names)])
        names.append(config.kind if not again else f"{config.kind}_{again + 1}")
    return names
