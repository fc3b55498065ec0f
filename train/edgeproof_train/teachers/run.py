"""A student of an earlier run as teacher: fine-tuned on the same data, or as small as the student itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from edgeproof_configs import schema
from edgeproof_configs.errors import DataError, UsageError
from edgeproof_configs.registry import register
from edgeproof_data.paths import resolve_path
from edgeproof_train.student import CARD_FILE, Student
from edgeproof_train.teacher import Teacher, TeacherPlaces, frozen
from edgeproof_train.weights import weights_digest

WITH_TOKENS = (
    "train it with student: {kind: multi_view, tokens: true} and a loss on tokens, or choose a loss on"
    " embeddings (relation with r_gl: 1 is one)"
)


@register("teacher")
class RunTeacher(Teacher):
    """The best student that a run has trained. With the same architecture it is self-distillation.

    A student that scores classes has a classifier and knows the names of its classes; its embedding is what
    stands before that classifier. One that was distilled into an embedding space gives embeddings of it.

    A student of several views pools the views of an object as it was trained to; what is stored is what it
    pools, so that each view is encoded once. Where it has learnt tokens it gives those of the object, too.
    """

    class Config(schema.TeacherConfig):
        """`path`: a run directory, or a folder with a student's `model.safetensors` and `config.json`."""

        kind: Literal["run"] = "run"
        path: str

    def __init__(self, config: Config, places: TeacherPlaces):
        super().__init__(config, places)
        folder = resolve_path(config.path, places.data_root)
        student = Student.load(student_folder(folder))
        self.student: Student = frozen(student, self.device)
        self.embedding_dim = pooled_width(student) if student.classes else student.embedding_dim
        self.classes = student.classes
        self.num_classes = len(student.classes)
        self.preprocess = student.preprocess
        # Tokens of a student that scores classes lie among its scores, not in the space of its embedding.
        self.token_shape = student.token_shape if student.pools_late and not student.classes else None

    def per_view(self) -> Teacher:
        """Return what is stored for single views: the features that a student of views pools itself.

        Raises:
            UsageError: it pools within its network, so that no view has features of its own; or the recipe
                says how views are pooled, and it has learnt that.
        """
        if self.student.input_name != "views":
            return self
        if not self.student.pools_late:
            raise UsageError(
                "this teacher pools views within its network: nothing can be stored for a view by itself",
                where="teacher.path",
                fix="train one of student.kind: multi_view with pool_at: features",
            )
        if self.config.view_pooling != "mean":
            raise UsageError(
                "view_pooling has no effect on a teacher that was trained to pool views itself",
                where="teacher.view_pooling",
                fix="remove it",
            )
        return SingleViews(self)

    def pool_views(self, views_BVD: Tensor) -> Tensor:
        """Return the embeddings (B, D) of objects; a student of views pools as it has learnt to."""
        if self.student.input_name != "views":
            return super().pool_views(views_BVD)
        student: Any = self.student
        if self.classes and not self.class_scores:
            return student.view_pool(views_BVD)
        return student.pool_views(views_BVD).embedding

    def object_tokens(self, views_BVCHW: Tensor) -> Tensor:
        """Return tokens (B, 1 + P, D) of objects, pooled as the student has learnt to.

        Raises:
            UsageError: it gives none.
        """
        if self.token_shape is None:
            return super().object_tokens(views_BVCHW)
        with torch.no_grad():
            return self.student(views_BVCHW.to(self.device, non_blocking=True)).tokens.float()

    def without_tokens(self) -> str:
        """Return how a run's student comes to give tokens."""
        return WITH_TOKENS

    def module(self) -> nn.Module:
        """Return the student's network."""
        return self.student.module()

    def classifier(self) -> nn.Linear | None:
        """Return the linear layer that scores the classes, if that is what it has."""
        head: Any = getattr(self.student, "head", None)
        return head if self.classes and isinstance(head, nn.Linear) else None

    def _identity(self) -> dict[str, Any]:
        return {"student": self.student.card(), "weights_sha256": weights_digest(self.student.tensors())}

    def _encode_image(self, image_BCHW: Tensor) -> Tensor:
        return self.student.pooled(image_BCHW) if self.classes else self.student(image_BCHW).embedding

    def _encode_logits(self, image_BCHW: Tensor) -> Tensor:
        return self.student(image_BCHW).logits

    def _encode_tokens(self, image_BCHW: Tensor) -> Tensor:
        return self.student(image_BCHW).tokens


class SingleViews(Teacher):
    """What a student of views says of each view, before it pools them; the teacher of a run pools it."""

    def __init__(self, of: RunTeacher):
        super().__init__(of.config, of.places)
        self.of = of
        self.embedding_dim = pooled_width(of.student)
        self.preprocess = of.preprocess

    def _identity(self) -> dict[str, Any]:
        return {**self.of.identity(), "output": "features of single views"}

    def _encode_image(self, image_BCHW: Tensor) -> Tensor:
        return self.of.student.encode_views(image_BCHW)


def pooled_width(student: Student) -> int:
    """Return how many features stand before a student's head."""
    side = student.preprocess.image_size
    image = torch.zeros(1, 3, side, side, device=next(student.parameters()).device)
    with torch.no_grad():
        return student.eval().pooled(image).shape[1]


def student_folder(place: Path) -> Path:
    """Return the folder of a run's student, or the place itself where a student lies in it.

    Raises:
        DataError: there is none.
    """
    for folder in (place / "train", place):
        if (folder / CARD_FILE).is_file():
            return folder
    raise DataError(
        "there is no trained student here", where=place, fix="ship that recipe first, or name its run folder"
    )
