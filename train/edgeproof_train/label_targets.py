"""What labels say about a batch, mixed images included, and the base of the losses that learn from it."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from edgeproof_configs.errors import UsageError
from edgeproof_configs.schema import Fraction, LossConfig
from edgeproof_train.loss import Loss, LossContext, fp32_island
from edgeproof_train.outputs import StepOutputs


class LabelLossConfig(LossConfig):
    """`label_smoothing`: share of the target that is spread over all classes."""

    label_smoothing: Fraction = 0.0


class LabelLoss(Loss):
    """Mean over the labelled images of `sum_k q_k penalty(p)_k`.

    `p` is the softmax of the student's class scores and `q` the target of `label_targets`. Because this is
    linear in `q`, an image that is `share` its own and the rest its partner costs `share` of the one label's
    loss plus the rest of the other's. Images without a label are left out of the mean; a batch with none
    left gives 0 (with a zero gradient). Under several processes, and in accumulation, a batch is that of one
    process and part, and the mean over batches is taken as it stands, however many labels each has.
    """

    needs: ClassVar[tuple[str, ...]] = ("student.logits", "batch.label")

    def __init__(self, config: Any, context: LossContext):
        super().__init__(config, context)
        check_label_space(config.kind, context)

    @abstractmethod
    def penalty(self, log_probability: Tensor) -> Tensor:
        """Return what an image costs for each class that might be its own, (B, K), at least 0.

        Args:
            log_probability: (B, K), log of the softmax of the student's class scores.
        """

    @fp32_island
    def forward(self, outputs: StepOutputs) -> Tensor:
        """Return the loss, at least 0."""
        logits = outputs.student.logits
        target, labelled = label_targets(outputs, logits.shape[1], self.config.label_smoothing)
        cost = (target.to(logits.dtype) * self.penalty(F.log_softmax(logits, dim=1))).sum(dim=1)
        return mean_over(cost, labelled)


def check_label_space(name: str, context: LossContext) -> None:
    """Refuse labels that are not places among the student's class scores.

    Raises:
        UsageError: the data have another number of classes than the student scores.
    """
    if context.class_scores and context.num_classes != context.student_dim:
        raise UsageError(
            f"{name}: the training images have {context.num_classes} classes,"
            f" the student's class scores are (B, {context.student_dim})",
            where="losses",
            fix="give student and teacher a classifier of the data's classes",
        )


def label_targets(outputs: StepOutputs, num_classes: int, smoothing: float = 0.0) -> tuple[Tensor, Tensor]:
    """Return what the images ought to be: a distribution over the classes, and whether it is known.

    The target of image i is `share_i onehot(label_i) + (1 - share_i) onehot(partner_i)`, then smoothed:
    `(1 - smoothing) target + smoothing / K`.

    Args:
        outputs: labels of the images, and how they were mixed.
        num_classes: K.
        smoothing: share of the target that is spread over all classes.

    Returns:
        target: float32 (B, K), rows that sum to 1; meaningless where it is not known.
        labelled: bool (B,), False for an image any part of which has no label.
    """
    label = outputs.label
    labelled = label >= 0
    target = F.one_hot(label.clamp_min(0), num_classes).float()
    if outputs.mix is not None:
        partner, share = outputs.mix.partner, outputs.mix.share.float()
        other = F.one_hot(partner.clamp_min(0), num_classes).float()
        target = share[:, None] * target + (1 - share[:, None]) * other
        labelled = (labelled | (share == 0)) & ((partner >= 0) | (share == 1))
    return (1 - smoothing) * target + smoothing / num_classes, labelled


def mean_over(cost: Tensor, chosen: Tensor) -> Tensor:
    """Return the mean of `cost` (B,) over the images `chosen` (bool, B); 0 if none is."""
    return torch.where(chosen, cost, 0.0).sum() / chosen.sum().clamp_min(1)
