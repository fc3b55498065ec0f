"""The teacher's last map as target, so that the student can use the teacher's own classifier."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator
from torch import Tensor, nn
from torch.nn import functional as F

from edgeproof_configs.errors import UsageError
from edgeproof_configs.registry import register
from edgeproof_train.feature_loss import (
    FeatureLoss,
    FeatureLossConfig,
    NodePair,
    Nodes,
    common_size,
    maps_of,
    mismatch,
    pooled_to,
)
from edgeproof_train.loss import LossContext, fp32_island
from edgeproof_train.outputs import StepOutputs
from edgeproof_train.simkd import PROJECTED, Projector, ReusedHead


@register("loss")
class SimKD(FeatureLoss):
    """SimKD (arXiv 2203.14001): the mean over all values of `(P(F_s) - F_t)^2`, without a label loss.

    `F` are the last maps before the pooling. The student's class scores are `W_t mean(P(F_s)) + b_t`, with
    the teacher's frozen classifier: the projector `P` and that classifier become part of the student that is
    exported. `reused_head` hands them over.
    """

    class Config(FeatureLossConfig):
        """Settings.

        Attributes:
            nodes: one pair, the maps whose means the two classifiers read.
            factor: how many times fewer channels than the teacher's map the projector's 3x3 layer has.
            last_relu: end the projector with a ReLU; false for a teacher whose map has values below 0.
        """

        kind: Literal["simkd"] = "simkd"
        nodes: Nodes
        factor: Annotated[int, Field(ge=1)] = 2
        last_relu: bool = True

        @field_validator("nodes")
        @classmethod
        def _one_pair(cls, nodes: list[NodePair]) -> list[NodePair]:
            if len(nodes) != 1:
                raise ValueError(f"expected one pair, the last maps before the pooling, got {len(nodes)}")
            return nodes

    def __init__(self, config: Any, context: LossContext):
        super().__init__(config, context)
        pair, shapes = self.pairs[0], self.shapes[0]
        check_classifier(context.teacher_head, shapes[1][0], pair.teacher)
        if shapes[1][0] % config.factor:
            raise mismatch(
                *(config.kind, pair, shapes, f"the teacher's channels cannot be divided by {config.factor}"),
                fix="set another factor, such as 2 or 1",
            )
        self.size = common_size(shapes)
        self.projector = Projector(shapes[0][0], shapes[1][0], self.size, config.factor, config.last_relu)

    @fp32_island
    def forward(self, outputs: StepOutputs) -> Tensor:
        """Return the loss, at least 0; a student with the reused head has run the projector already."""
        if PROJECTED not in outputs.student.features:
            return super().forward(outputs)
        _, teacher = maps_of(self.config.kind, self.pairs[0], outputs)
        return F.mse_loss(outputs.student.features[PROJECTED], pooled_to(teacher, self.size))

    def compare(self, pair: int, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the loss of the student's map, at least 0."""
        return F.mse_loss(self.projector(student), pooled_to(teacher, self.size))

    def reused_head(self, classifier: nn.Linear) -> ReusedHead:
        """Hand over what turns the student's map into class scores: the projector and a classifier.

        Both are the same modules, no copies. From now on the projector is the student's, which trains,
        averages, saves and runs it; this loss looks at what it gives.

        Args:
            classifier: the teacher's, from the channels of its map to its classes.
        """
        check_classifier(classifier, self.projector.channels, self.pairs[0].teacher)
        projector = self.projector
        del self.projector
        # Past nn.Module, so that it is no part of the loss: a tensor must not be saved twice.
        object.__setattr__(self, "projector", projector)
        return ReusedHead(projector, classifier)


def check_classifier(classifier: nn.Linear | None, channels: int, node: str) -> None:
    """Refuse a teacher whose classifier does not read the means of a map's channels.

    Raises:
        UsageError: it has none, or one for another width.
    """
    if classifier is None:
        raise UsageError(
            "simkd: the student takes over the teacher's linear classifier, and this teacher has none",
            where="teacher",
            fix="choose a teacher with a linear classifier, or another loss such as hint",
        )
    if classifier.in_features != channels:
        raise UsageError(
            f"simkd: the teacher's classifier reads {classifier.in_features} values, '{node}' has {channels}"
            " channels",
            where="losses",
            fix="name the teacher's last map before the pooling",
        )
