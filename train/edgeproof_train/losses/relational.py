"""Distances and angles among the images of a batch (relational knowledge distillation)."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from edgeproof_configs.registry import register
from edgeproof_configs.schema import LossConfig
from edgeproof_train.feature_loss import Nodes, maps_of, needs_of_nodes
from edgeproof_train.loss import Loss, fp32_island
from edgeproof_train.outputs import StepOutputs

CHUNK_ELEMENTS = 1 << 24
"""How many float32 values (64 MiB) one chunk of the angle term may hold at a time."""
SMALLEST_SQUARE = 1e-24


@register("loss")
class Relational(Loss):
    """RKD (arXiv 1904.05068): `distance * L_D + angle * L_A`.

    `L_D` is the mean over all pairs of smooth L1 between distances, each side divided by its mean distance
    over pairs that are apart. `L_A` is the mean over all triplets (i, j, k) of smooth L1 between the
    cosines of the angle at j. Shifting, turning or scaling all embeddings changes nothing, and the student
    may have another width than the teacher. Embeddings are taken as they are, not normalised, as the
    paper's authors advise.

    With `nodes` it compares the means over the places of feature maps in place of the embeddings, and is the
    sum over the pairs of nodes.
    """

    class Config(LossConfig):
        """What is compared, and how much.

        Attributes:
            distance: weight of L_D; 1 is the paper's, 25 its authors' for CIFAR-100.
            angle: weight of L_A; 2 is the paper's, 50 its authors' for CIFAR-100.
            nodes: pairs of nodes; the embeddings if not given.
        """

        kind: Literal["relational"] = "relational"
        distance: Annotated[float, Field(ge=0)] = 1.0
        angle: Annotated[float, Field(ge=0)] = 2.0
        nodes: Nodes | None = None

        @model_validator(mode="after")
        def _something_is_compared(self) -> Relational.Config:
            if not self.distance and not self.angle:
                raise ValueError("distance and angle are both 0: nothing would be compared")
            return self

    needs: ClassVar[tuple[str, ...]] = ("student.embedding", "teacher.embedding")
    same_width: ClassVar[bool] = False
    depends_on_batch: ClassVar[bool] = True

    @classmethod
    def needs_of(cls, config: Any) -> tuple[str, ...]:
        """Return the maps of its nodes, or the embeddings."""
        return cls.needs if config.nodes is None else needs_of_nodes(config.nodes)

    @fp32_island
    def forward(self, outputs: StepOutputs) -> Tensor:
        """Return the loss, at least 0; 0 for a batch of one image."""
        if self.config.nodes is None:
            return self.compare(outputs.student.embedding, outputs.teacher.embedding.detach())
        pairs = (maps_of(self.config.kind, pair, outputs) for pair in self.config.nodes)
        terms = [
            self.compare(student.mean(dim=(2, 3)), teacher.mean(dim=(2, 3))) for student, teacher in pairs
        ]
        return torch.stack(terms).sum()

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the loss of rows (B, D) and (B, any width).

        Raises:
            ValueError: they are not of the same number of images.
        """
        if len(student) != len(teacher):
            shapes = f"student {tuple(student.shape)}, teacher {tuple(teacher.shape)}"
            raise ValueError(f"relational: not the same number of images: {shapes}")
        loss = student.new_zeros(())
        if self.config.distance:
            loss = loss + self.config.distance * F.smooth_l1_loss(distances(student), distances(teacher))
        if self.config.angle:
            loss = loss + self.config.angle * angle_loss(student, teacher)
        return loss


def distances(embedding: Tensor) -> Tensor:
    """Return distances (B, B) divided by their mean over pairs that are apart; all 0 if none is."""
    # The faster form |a|^2 + |b|^2 - 2ab cancels badly for near points.
    pairs = torch.cdist(embedding, embedding, compute_mode="donot_use_mm_for_euclid_dist")
    apart = pairs > 0
    return pairs / torch.where(apart.any(), pairs.sum() / apart.sum().clamp_min(1), 1.0)


def angle_loss(student: Tensor, teacher: Tensor, chunk_elements: int = CHUNK_ELEMENTS) -> Tensor:
    """Return the mean over B^3 triplets of smooth L1 between cosines.

    Args:
        student: (B, D).
        teacher: (B, any width).
        chunk_elements: values that one chunk of corners may hold; more chunks are computed again in the
            backward pass.
    """
    batch = len(student)
    an_image = batch * (batch + student.shape[1] + teacher.shape[1])
    chunk = max(1, min(batch, chunk_elements // an_image))
    total = student.new_zeros(())
    for start in range(0, batch, chunk):
        corners = slice(start, start + chunk)
        if chunk == batch:
            total = total + corner_loss(student, teacher, corners)
        else:
            total = total + checkpoint(
                corner_loss, student, teacher, corners, use_reentrant=False, preserve_rng_state=False
            )
    return total / batch**3


def corner_loss(student: Tensor, teacher: Tensor, corners: slice) -> Tensor:
    """Return the sum over all triplets whose corner j lies in a slice of the batch."""
    return F.smooth_l1_loss(cosines_at(student, corners), cosines_at(teacher, corners), reduction="sum")


def cosines_at(embedding: Tensor, corners: slice) -> Tensor:
    """Return the cosine of the angle i-j-k for corners j: (J, B, B), 0 where i or k lies on j."""
    arms = embedding[None, :, :] - embedding[corners, None, :]
    squared = arms.square().sum(dim=-1, keepdim=True)
    # An arm of no length has no direction; taking it out before the root keeps its gradient finite.
    there = squared > SMALLEST_SQUARE
    directions = torch.where(there, arms / torch.where(there, squared, 1.0).sqrt(), 0.0)
    return directions @ directions.transpose(1, 2)
