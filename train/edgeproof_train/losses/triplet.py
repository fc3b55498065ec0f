"""Nearer to its own kind than to the others: triplets within a batch."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from edgeproof_configs.registry import register
from edgeproof_configs.schema import LossConfig
from edgeproof_train.loss import Loss, LossContext, fp32_island, unit
from edgeproof_train.outputs import ABSENT, StepOutputs

Distance = Literal["euclidean", "cosine"]
Margin = Annotated[float, Field(gt=0)] | Literal["soft"]


@register("loss")
class Triplet(Loss):
    """Mean of `max(d(a, p) - d(a, n) + margin, 0)` over triplets of a batch's unit embeddings.

    An anchor a has as positives p the other rows of its class, or of its object, and as negatives n the rows
    of other classes, or of other objects. Which triplets count:

    - `batch_hard` (arXiv 1703.07737): for each anchor its farthest positive and its nearest negative.
    - `semi_hard` (arXiv 1503.03832): for each anchor and positive the nearest negative that is farther than
      the positive; where none is, the farthest negative.
    - `all`: every triplet.

    With a soft margin the hinge is `log(1 + exp(d(a, p) - d(a, n)))`. Between classes rows without a label
    are left out. A batch without a triplet gives 0, with a gradient of 0; how many there were is told beside
    the loss, and so is which share of the triplets that counted cost anything.
    """

    class Config(LossConfig):
        """Which triplets, and how far apart.

        Attributes:
            positives: rows of the same `class`, or of the same `object` seen in other views.
            mining: see the class.
            distance: `euclidean`, 0 to 2 between unit vectors, or `cosine`, one minus the cosine.
            margin: how much farther a negative has to be; `soft` for none with a soft edge.
        """

        kind: Literal["triplet"] = "triplet"
        positives: Literal["class", "object"] = "class"
        mining: Literal["batch_hard", "semi_hard", "all"] = "batch_hard"
        distance: Distance = "euclidean"
        margin: Margin = 0.3

    needs: ClassVar[tuple[str, ...]] = ("student.embedding", "batch.label")
    same_width: ClassVar[bool] = False
    depends_on_batch: ClassVar[bool] = True
    one_label: ClassVar[bool] = True
    batches: Tensor
    empty: Tensor
    active: Tensor

    def __init__(self, config: Any, context: LossContext):
        super().__init__(config, context)
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))
        self.register_buffer("empty", torch.zeros((), dtype=torch.int64))
        self.register_buffer("active", torch.zeros(()))

    @classmethod
    def needs_of(cls, config: Any) -> tuple[str, ...]:
        """Return the embedding, and labels where classes make the triplets."""
        return cls.needs if config.positives == "class" else cls.needs[:1]

    @fp32_island
    def forward(self, outputs: StepOutputs) -> Tensor:
        """Return the loss, at least 0."""
        rows, names = outputs.student.embedding, self._names(outputs)
        near = distances(unit(rows), self.config.distance)
        gaps = self._gaps(near, *pairs_of(names))
        cost = F.softplus(gaps) if self.config.margin == "soft" else F.relu(gaps + self.config.margin)
        self._note(cost.detach(), names)
        return cost.mean() if len(cost) else rows.sum() * 0

    def epoch_figures(self) -> dict[str, float]:
        """Return how many batches had no triplet, and which share of those that counted cost anything."""
        told = {"batches_without_triplet": float(self.empty)}
        with_triplets = self.batches - self.empty
        if with_triplets > 0:
            told["active"] = float(self.active / with_triplets)
        for buffer in (self.batches, self.empty, self.active):
            buffer.zero_()
        return told

    def _names(self, outputs: StepOutputs) -> Tensor:
        """Return what makes two rows alike, int64 (B,); -1 for rows that are left out."""
        if self.config.positives == "class":
            return outputs.label
        if outputs.index is ABSENT:
            raise ValueError("triplet: positives of one object need the positions of the rows' objects")
        return outputs.index

    def _gaps(self, near: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        """Return `d(a, p) - d(a, n)` of the triplets that count, (T,)."""
        whole = positive.any(dim=1) & negative.any(dim=1)
        near, positive, negative = near[whole], positive[whole], negative[whole]
        if self.config.mining == "batch_hard":
            farthest = near.masked_fill(~positive, -torch.inf).amax(dim=1)
            return farthest - near.masked_fill(~negative, torch.inf).amin(dim=1)
        if self.config.mining == "all":
            anchor, one, other = (positive[:, :, None] & negative[:, None, :]).nonzero(as_tuple=True)
            return near[anchor, one] - near[anchor, other]
        anchor, one = positive.nonzero(as_tuple=True)
        own, others, allowed = near[anchor, one], near[anchor], negative[anchor]
        beyond = allowed & (others > own[:, None])
        nearest = others.masked_fill(~beyond, torch.inf).amin(dim=1)
        farthest = others.masked_fill(~allowed, -torch.inf).amax(dim=1)
        return own - torch.where(beyond.any(dim=1), nearest, farthest)

    @torch.no_grad()
    def _note(self, cost: Tensor, names: Tensor) -> None:
        """Count a training batch; one in which no row has a label, as of photos, is none."""
        if not self.training:
            return
        counts = (names >= 0).any().long()
        self.batches += counts
        if len(cost):
            self.active += (cost > 0).float().mean()
        else:
            self.empty += counts


def distances(rows: Tensor, kind: Distance) -> Tensor:
    """Return the distances (B, B) between unit rows; the gradient of two equal rows is 0."""
    if kind == "cosine":
        return 1 - rows @ rows.T
    # The faster form |a|^2 + |b|^2 - 2ab cancels badly for near points.
    return torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist")


def pairs_of(names: Tensor) -> tuple[Tensor, Tensor]:
    """Return which rows are another one's positives and negatives, bool (B, B) each.

    Args:
        names: int64 (B,), equal for rows that belong together; rows below 0 are in no pair.
    """
    known = (names >= 0)[:, None] & (names >= 0)[None, :]
    alike = names[:, None] == names[None, :]
    itself = torch.eye(len(names), dtype=torch.bool, device=names.device)
    return known & alike & ~itself, known & ~alike
