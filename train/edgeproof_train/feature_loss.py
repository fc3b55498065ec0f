"""The base of losses on feature maps: which nodes are compared, and how two maps are made as large."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar

import torch
from pydantic import AfterValidator, BeforeValidator, Field
from torch import Tensor
from torch.nn import functional as F

from edgeproof_configs.errors import UsageError
from edgeproof_configs.schema import Config, LossConfig
from edgeproof_train.loss import Loss, LossContext, fp32_island
from edgeproof_train.outputs import StepOutputs

Shape = tuple[int, int, int]
NodeName = Annotated[str, Field(min_length=1)]


class NodePair(Config):
    """A node of the student and the teacher's that it is compared with; `Taps` says what a node is."""

    student: NodeName
    teacher: NodeName


def _a_list(nodes: Any) -> Any:
    if isinstance(nodes, dict):
        raise ValueError(
            "expected a list of pairs, such as [{student: blocks.4, teacher: layer3}], got a mapping"
        )
    return nodes


def _all_different(nodes: list[NodePair]) -> list[NodePair]:
    if len(set(nodes)) != len(nodes):
        raise ValueError("a pair of nodes stands there twice")
    return nodes


Nodes = Annotated[
    list[NodePair], Field(min_length=1), BeforeValidator(_a_list), AfterValidator(_all_different)
]


class FeatureLossConfig(LossConfig):
    """`nodes`: the pairs that are compared; the loss is the sum over them."""

    nodes: Nodes


class FeatureLoss(Loss):
    """A loss that compares maps (B, C, H, W) of the student with maps of the teacher, pair by pair of nodes.

    A subclass compares one pair in `compare`. What it learns for a pair stands in a `ModuleList`, one entry
    for each pair.
    """

    needs: ClassVar[tuple[str, ...]] = ()
    same_width: ClassVar[bool] = False

    def __init__(self, config: Any, context: LossContext):
        super().__init__(config, context)
        self.pairs: tuple[NodePair, ...] = tuple(config.nodes)
        self.shapes = [shapes_of(pair, context) for pair in self.pairs]

    @classmethod
    def needs_of(cls, config: Any) -> tuple[str, ...]:
        """Return the maps of all nodes, beside what every such loss needs."""
        return (*cls.needs, *needs_of_nodes(config.nodes))

    @fp32_island
    def forward(self, outputs: StepOutputs) -> Tensor:
        """Return the sum over the pairs of nodes."""
        terms = [
            self.compare(index, *maps_of(self.config.kind, pair, outputs))
            for index, pair in enumerate(self.pairs)
        ]
        return torch.stack(terms).sum()

    @abstractmethod
    def compare(self, pair: int, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the loss of one pair.

        Args:
            pair: which of `pairs`.
            student: (B, C, H, W).
            teacher: (B, C, H, W), without gradient; each of its sizes but B may be another one.
        """


def needs_of_nodes(pairs: Sequence[NodePair]) -> tuple[str, ...]:
    """Return the needs of pairs of nodes, each once."""
    sides = ((f"student.features[{pair.student}]", f"teacher.features[{pair.teacher}]") for pair in pairs)
    return tuple(dict.fromkeys(need for both in sides for need in both))


def maps_of(name: str, pair: NodePair, outputs: StepOutputs) -> tuple[Tensor, Tensor]:
    """Return the student's and the teacher's map of a pair, the teacher's without gradient.

    Raises:
        ValueError: they are not of the same number of images.
    """
    student = outputs.student.features[pair.student]
    teacher = outputs.teacher.features[pair.teacher]
    if len(student) != len(teacher):
        raise ValueError(
            f"{name}: not the same number of images: student {tuple(student.shape)} at '{pair.student}',"
            f" teacher {tuple(teacher.shape)} at '{pair.teacher}'"
        )
    return student, teacher.detach()


def shapes_of(pair: NodePair, context: LossContext) -> tuple[Shape, Shape]:
    """Return the shapes (C, H, W) of a pair's two maps."""
    (c, h, w), (k, y, x) = context.student_features[pair.student], context.teacher_features[pair.teacher]
    return (c, h, w), (k, y, x)


def mismatch(name: str, pair: NodePair, shapes: tuple[Shape, Shape], why: str, fix: str) -> UsageError:
    """Return the error for two maps that cannot be compared, which names both shapes."""
    student, teacher = (f"(B, {', '.join(map(str, shape))})" for shape in shapes)
    return UsageError(
        f"{name}: {why}: student {student} at '{pair.student}', teacher {teacher} at '{pair.teacher}'",
        where="losses",
        fix=fix,
    )


def common_size(shapes: tuple[Shape, Shape]) -> tuple[int, int]:
    """Return the height and width at which two maps are compared: of each the smaller."""
    (_, height, width), (_, rows, columns) = shapes
    return min(height, rows), min(width, columns)


def pooled_to(features: Tensor, size: tuple[int, int]) -> Tensor:
    """Return a map (B, C, H, W) averaged down to a height and width; itself if it has them."""
    return features if features.shape[2:] == size else F.adaptive_avg_pool2d(features, size)


def same_size(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Return both maps at the smaller one's height and width."""
    height = min(student.shape[2], teacher.shape[2])
    width = min(student.shape[3], teacher.shape[3])
    return pooled_to(student, (height, width)), pooled_to(teacher, (height, width))
