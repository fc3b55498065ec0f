"""The text that belongs to each labelled image of a batch: the other side of a contrastive loss."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from edgeproof_configs.errors import UsageError
from edgeproof_train.loss import LossContext


class LabelText(nn.Module):
    """Looks up the head's text embedding of an image's label.

    Args:
        name: the loss that asks, for its messages.
        context: what there is.

    Raises:
        UsageError: none of the training classes has words.
    """

    text: Tensor
    row_of_class: Tensor

    def __init__(self, name: str, context: LossContext):
        super().__init__()
        rows = context.class_to_text
        if rows is None or not (rows >= 0).any():
            raise UsageError(
                f"{name}: none of the training classes is among the head's words",
                where="losses",
                fix=f"use the class names as labels of the head, or remove {name}",
            )
        self.register_buffer("text", context.text_rows(), persistent=False)
        # One row more, so that a label of -1 picks the last one: no words.
        self.register_buffer("row_of_class", F.pad(rows.long(), (0, 1), value=-1), persistent=False)

    def forward(self, label: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return which images have words, and those words, one row for each of these images.

        Args:
            label: int64 (B,), -1 where an image has none.

        Returns:
            chosen: bool (B,).
            row: int64 (N,), of the N images chosen; images of one class share a row.
            text: unit rows (N, D), float32.
        """
        row = self.row_of_class[label]
        chosen = row >= 0
        return chosen, row[chosen], self.text[row[chosen]]


def symmetric_kl_of_rows(target_NN: Tensor, scores_NN: Tensor) -> Tensor:
    """Return the mean of `KL(target || softmax(scores))` over rows and, with both turned, over columns.

    Args:
        target_NN: scores or log-probabilities whose softmax is the target, over rows and over columns.
        scores_NN: what is compared with it.

    Returns:
        A scalar, half from the rows and half from the columns; 0 where N is 0.
    """
    if not len(scores_NN):
        return scores_NN.sum()
    total = scores_NN.new_zeros(())
    for dim in (0, 1):
        target_log, log = F.log_softmax(target_NN, dim=dim), F.log_softmax(scores_NN, dim=dim)
        total = total + F.kl_div(log, target_log, reduction="batchmean", log_target=True)
    return total / 2
