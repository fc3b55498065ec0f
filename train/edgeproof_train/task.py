"""The one task: student, frozen teacher and weighted losses, for every recipe and stage that trains."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from edgeproof_configs.errors import UsageError
from edgeproof_configs.registry import component_class
from edgeproof_configs.schema import LossConfig
from edgeproof_train.loss import Loss, LossContext, check_needs
from edgeproof_train.outputs import ModelOutputs, StepOutputs
from edgeproof_train.student import Student
from edgeproof_train.supervision import Supervision

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

    Raises:
        UsageError: a loss needs what is not there, or its shapes cannot fit.
    """

    def __init__(
        self,
        student: Student,
        losses: Sequence[LossConfig],
        context: LossContext,
        supervision: Supervision | None = None,
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
        check_needs(classes, context)
        self.student = student
        self.losses = nn.ModuleDict({name: classes[name](config, context) for name, config in named.items()})
        self.weights = {name: config.weight for name, config in named.items()}
        self.supervision = checked_supervision(supervision, classes, context)

    def forward(self, batch: Batch, step: int = 0) -> dict[str, Tensor]:
        """Return every loss of a batch by name, as float32 scalars, not weighted.

        Args:
            batch: images (B, 3, H, W) normalised for the student, labels (B,), positions in the training
                set (B,).
            step: optimizer steps done before this one.
        """
        teacher = self.supervision(batch) if self.supervision else ModelOutputs()
        outputs = StepOutputs(self.student(batch["image"]), teacher, batch["label"], step)
        return {name: loss(outputs) for name, loss in self.losses.items()}

    def total(self, losses: Mapping[str, Tensor]) -> Tensor:
        """Return the weighted sum that is minimised."""
        return torch.stack([self.weights[name] * loss for name, loss in losses.items()]).sum()

    def batch_bound(self) -> list[str]:
        """Return the names of losses that compare the images of a batch with each other."""
        return [name for name, loss in self.losses.items() if cast("Loss", loss).depends_on_batch]

    def loss_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield the named trainable parts of the losses."""
        return self.losses.named_parameters(prefix="losses")


def checked_supervision(
    supervision: Supervision | None, losses: Mapping[str, type[Loss]], context: LossContext
) -> Supervision | None:
    """Return the supervision, or None where no loss looks at the teacher, which then is not asked at all."""
    wanting = [
        name for name, loss in losses.items() if any(need.startswith("teacher.") for need in loss.needs)
    ]
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
