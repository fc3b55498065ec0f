"""No teacher: the student learns from labels alone, as teachers themselves and baselines do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from edgeproof_configs import schema
from edgeproof_configs.registry import register
from edgeproof_train.teacher import Teacher, TeacherPlaces


@register("teacher")
class NoTeacher(Teacher):
    """Stands where a recipe has no teacher.

    The student learns class scores, with `head: {kind: classifier}` and losses on labels; or an embedding
    under a loss that compares embeddings of the student's own, such as `triplet`.
    """

    class Config(schema.TeacherConfig):
        """`embedding_dim`: D of the embedding, where it is one that the student learns."""

        kind: Literal["none"] = "none"
        embedding_dim: schema.PositiveInt | None = None

    live = False
    absent: ClassVar[bool] = True

    def __init__(self, config: Config, places: TeacherPlaces):
        super().__init__(config, places)
        self.embedding_dim = config.embedding_dim or 0

    def give_class_scores(self, classes: Sequence[str]) -> None:
        """Accept any classes: there is nobody to know others."""
        self.embedding_dim = len(classes)

    def _identity(self) -> dict[str, Any]:
        return {}
