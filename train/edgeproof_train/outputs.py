"""What a model gives for a batch, and what a loss is given at a step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import cast

import torch
from torch import Tensor

ABSENT = cast("Tensor", None)
"""An output that a model does not have. Losses declare what they need and the task checks it when it is
built, so none of them ever reads an absent one; that is why the fields below are typed as plain tensors."""


@dataclass(frozen=True)
class TopProbabilities:
    """The k largest of K class probabilities, at temperature 1; the other classes share the rest evenly.

    Attributes:
        values: (B, k), the largest first.
        ids: int64 (B, k), their classes.
        num_classes: K.
    """

    values: Tensor
    ids: Tensor
    num_classes: int

    def rest(self) -> Tensor:
        """Return the probability (B,) of each class that is not among the k; 0 if they are all classes."""
        others = self.num_classes - self.values.shape[1]
        return (1 - self.values.sum(dim=1)).clamp_min(0) / others if others else self.values.new_zeros(())

    def map(self, change: Callable[[Tensor], Tensor]) -> TopProbabilities:
        """Return the same with `change` applied to both tensors."""
        return TopProbabilities(change(self.values), change(self.ids), self.num_classes)


NO_TOP = cast("TopProbabilities", None)
"""Stands where a model gives all its class scores, or none."""


@dataclass(frozen=True)
class ModelOutputs:
    """The outputs of one model.

    Attributes:
        embedding: (B, D), not normalised.
        logits: (B, K).
        features: by node name, (B, C, H, W).
        tokens: (B, N, D).
        top: the largest class probabilities, of a teacher of which only those are stored; then its embedding
            and logits are absent.
    """

    embedding: Tensor = ABSENT
    logits: Tensor = ABSENT
    features: dict[str, Tensor] = field(default_factory=dict)
    tokens: Tensor = ABSENT
    top: TopProbabilities = NO_TOP

    def map(self, change: Callable[[Tensor], Tensor]) -> ModelOutputs:
        """Return the outputs with `change` applied to every tensor that is there."""

        def one(tensor: Tensor) -> Tensor:
            return ABSENT if tensor is ABSENT else change(tensor)

        features = {node: change(tensor) for node, tensor in self.features.items()}
        top = NO_TOP if self.top is NO_TOP else self.top.map(change)
        return ModelOutputs(one(self.embedding), one(self.logits), features, one(self.tokens), top)


@dataclass(frozen=True)
class Mix:
    """How each image of a batch was mixed with another one (mixup, CutMix).

    Attributes:
        partner: int64 (B,), label of the image that was mixed in, -1 where it has none.
        share: float32 (B,), how much of the mixed image is its own; 1 is an image left alone.
    """

    partner: Tensor
    share: Tensor


@dataclass(frozen=True)
class StepOutputs:
    """Everything that a loss may look at.

    Attributes:
        student: the student's outputs, with gradient.
        teacher: the teacher's outputs for the same images, without gradient.
        label: int64 (B,), row in the data's class names, -1 where an image has none.
        step: optimizer steps done before this one.
        second: the student's outputs of a second pass over the same images, with other units dropped, with
            gradient; there if a loss needs `student.second`.
        mix: how the images were mixed; None if they were not.
        index: int64 (B,), position of each image or object in the training set; the same one may be there
            several times, seen in other ways.
    """

    student: ModelOutputs
    teacher: ModelOutputs = ModelOutputs()
    label: Tensor = ABSENT
    step: int = 0
    second: ModelOutputs = ModelOutputs()
    mix: Mix | None = None
    index: Tensor = ABSENT

    @property
    def device(self) -> torch.device:
        """Where the student's outputs lie."""
        found = self.student
        first = found.embedding if found.embedding is not ABSENT else found.logits
        return (first if first is not ABSENT else next(iter(found.features.values()))).device

    def full_precision(self) -> StepOutputs:
        """Return the same with half-precision tensors as float32; float32 and float64 stay as they are."""
        return replace(
            self,
            student=self.student.map(at_least_float32),
            teacher=self.teacher.map(at_least_float32),
            second=self.second.map(at_least_float32),
        )


def at_least_float32(tensor: Tensor) -> Tensor:
    """Return float16 and bfloat16 as float32, anything else unchanged."""
    return tensor.float() if tensor.is_floating_point() and tensor.element_size() < 4 else tensor
