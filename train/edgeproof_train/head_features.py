"""Embeddings of a run's images for fitting heads: the student's or the teacher's, of views, too."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import torch

from edgeproof_configs.errors import UsageError
from edgeproof_configs.schema import AugmentConfig
from edgeproof_data.cache.layout import MANIFEST
from edgeproof_data.objects import ObjectSet
from edgeproof_data.sets import ImageSet
from edgeproof_data.views import View
from edgeproof_deploy.runtime.preprocess import Preprocess
from edgeproof_train.embed import embed
from edgeproof_train.embeddings import embed_images
from edgeproof_train.run_data import PartName, RunData
from edgeproof_train.student import Student
from edgeproof_train.teacher import Teacher

Side = Literal["student", "teacher"]
BATCH = 64
SHOT_VIEWS = AugmentConfig(random_resized_crop=(0.5, 1.0), flip=0.5)
"""How a shot is changed for its views: what LP++ (arXiv 2404.02285) and Tip-Adapter (2111.03930) do."""


@dataclass(frozen=True)
class Features:
    """What a run's student or teacher gives for images, not normalised.

    Attributes:
        data: of the run; for the student its stage `train` has finished.
        side: whose.
    """

    data: RunData
    side: Side

    @cached_property
    def student(self) -> Student:
        """The student as trained."""
        return Student.load(self.data.context.run.stage("train"))

    def plain(self, split: PartName, images: ImageSet) -> np.ndarray:
        """Return the embeddings of some images of a part of the data, (N, D) float32."""
        if self.side == "student":
            workers, device = self.data.recipe.train.workers, self.data.context.device
            return embed_images(self.student, images, workers=workers, device=device, label=f"head {split}")
        if self.stored(split):
            return self.data.teacher_rows(split, images)
        return self._by_teacher(images, None)

    def views(self, split: PartName, images: ImageSet, count: int) -> np.ndarray:
        """Return the embeddings of random views of each image, those of one photo in a row, (N * count, D).

        Raises:
            UsageError: the teacher has stored embeddings only, which are of the plain photos; or the images
                are objects, whose views are photos of their own.
        """
        if count == 1:
            return self.plain(split, images)
        if isinstance(images, ObjectSet):
            raise UsageError(
                f"{count} augmented views a shot are of single photos, and these are objects",
                where="head.views",
                fix="leave head.views away: of an object the views are taken that data.views says",
            )
        if self.side == "teacher" and not self.data.teacher.lead.live:
            raise UsageError(
                f"{count} views a photo, and the teacher has stored embeddings of plain photos only",
                where="head.views",
                fix="set head.views: 1, or head.fit_on: student",
            )
        found = [self._view(images, number) for number in range(count)]
        return np.stack(found, axis=1).reshape(len(images) * count, -1)

    def stored(self, split: PartName) -> bool:
        """Whether the stage `embed` has left the teacher's embeddings of a part of the data."""
        folder = self.data.context.run.stage("embed") / split
        return (folder / MANIFEST).is_file()

    def _view(self, images: ImageSet, number: int) -> np.ndarray:
        view = View(images, self._preprocess(), SHOT_VIEWS, number, self.data.recipe.train.workers)
        if self.side == "teacher":
            return self._by_teacher(images, view)
        student, device = self.student.eval(), self.data.context.device
        student.to(device)
        rows = []
        with torch.inference_mode():
            for _, pixels in view.batches(np.arange(len(images)), BATCH):
                rows.append(student(torch.from_numpy(pixels).to(device)).embedding.float().cpu().numpy())
        return np.concatenate(rows)

    def _preprocess(self) -> Preprocess:
        preprocess = self.student.preprocess if self.side == "student" else self.data.teacher.lead.preprocess
        assert preprocess is not None
        return preprocess

    def _by_teacher(self, images: ImageSet, view: View | None) -> np.ndarray:
        if isinstance(images, ObjectSet):
            return self._of_objects(images)
        return self._of_images(self.data.teacher.lead, images, view)

    def _of_objects(self, objects: ObjectSet) -> np.ndarray:
        """Return the teacher's embeddings of objects, pooled over all views of each."""
        teacher = self.data.teacher.lead
        rows = torch.from_numpy(self._of_images(teacher.per_view(), objects.view_images(), None))
        pooled = [teacher.pool_views(rows[own][None]) for own in objects.view_rows()]
        return torch.cat(pooled).cpu().numpy()

    def _of_images(self, teacher: Teacher, images: ImageSet, view: View | None) -> np.ndarray:
        workers = self.data.recipe.train.workers
        found = embed(teacher, images, np.arange(len(images)), BATCH, workers, view=view)
        rows = [part for _, part, _ in found if isinstance(part, np.ndarray)]
        return np.concatenate(rows)
