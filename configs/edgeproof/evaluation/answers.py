"""What a model says of the images of a split."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from edgeproof.evaluation.sharing import shared_rows
from edgeproof.evaluation.subject import Subject
from edgeproof_data.sets import ImageSet, SplitName
from edgeproof_train.calibration import probabilities
from edgeproof_train.cascade_run import routing_of
from edgeproof_train.embeddings import embed_images, pooled_features
from edgeproof_train.metrics import nearest
from edgeproof_train.tta import Tta, embed_images_tta

BATCH = 64
"""Images that the student sees at a time, and that a process takes as its work at a time."""


@dataclass(frozen=True)
class Answers:
    """What a model says of N images.

    Attributes:
        subject: whose labels they are about.
        images: N images.
        rows: (N, D) float32, its embeddings, or its class scores where the space is theirs.
        features: (N, F), what images are compared by; None where it is not known.
    """

    subject: Subject
    images: ImageSet
    rows: np.ndarray
    features: np.ndarray | None

    @cached_property
    def true(self) -> np.ndarray:
        """Row of each image's class among the words, int64 (N,), -1 where there is none."""
        return self.subject.word_of_class[self.images.labels]

    @cached_property
    def labelled(self) -> np.ndarray:
        """Positions of the images that have a label among the words."""
        return np.flatnonzero(self.true >= 0)

    @cached_property
    def predicted(self) -> np.ndarray:
        """Row of the best word for each image, int64 (N,)."""
        if self.subject.fitted:
            return self.logits.argmax(axis=1)
        return nearest(self.subject.words.matrix, self.rows)

    @cached_property
    def head(self) -> Any:
        """The head for these images."""
        return self.subject.head_on(self.images)

    @cached_property
    def logits(self) -> np.ndarray:
        """(N, K) float32, the class scores that the head gives."""
        return self.head.logits(self.rows)

    @cached_property
    def routing(self) -> dict[str, Any] | None:
        """Who answered which images, where the head is a cascade."""
        data = self.subject.data
        return None if data is None else routing_of(data, self.head, self.rows, self.true, self.images)

    @property
    def certainty(self) -> np.ndarray:
        """(N,) probability of what was predicted."""
        return probabilities(self.logits)[np.arange(len(self.predicted)), self.predicted]


def of_student(subject: Subject, images: ImageSet) -> Answers:
    """Run the student over images once, and a second time for its features where it scores classes."""
    rows = features = student_rows(subject, images, embed_images, "evaluate")
    if subject.class_scores:
        features = student_rows(subject, images, pooled_features, "features")
    return Answers(subject, images, rows, features)


def student_rows(
    subject: Subject, images: ImageSet, run: Callable[..., np.ndarray], label: str, **settings: str
) -> np.ndarray:
    """Return what the student gives for N images, (N, D), on the first of the subject's processes.

    All of them must call this, and share the work. The others get no rows.

    Args:
        subject: whose student.
        images: N images.
        run: `embed_images` or another function of a student and images.
        label: name of the work on the progress line.
        settings: more arguments for `run`.
    """
    processes = subject.processes
    shown = label if processes.first else None

    def compute(part: ImageSet) -> np.ndarray:
        return run(subject.student, part, batch_size=BATCH, device=subject.device, label=shown, **settings)

    return shared_rows(processes, images, compute, BATCH)


def of_teacher(subject: Subject, split: SplitName, images: ImageSet) -> Answers | None:
    """Return what the teacher said of images of a split; None without a teacher."""
    if subject.teacher is None:
        return None
    rows = subject.teacher(split, images)
    return Answers(subject.of_teacher(), images, rows, None if subject.class_scores else rows)


def of_ten_crops(subject: Subject, images: ImageSet) -> tuple[str, Answers]:
    """Run the student over ten views of each image; return the name of how they were merged, too."""
    tta: Tta = "tencrop_logits" if subject.class_scores else "tencrop_embeddings"
    rows = student_rows(subject, images, embed_images_tta, "ten crops", tta=tta)
    return tta, Answers(subject, images, rows, None if subject.class_scores else rows)


def before_calibration(subject: Subject, split: SplitName) -> tuple[Answers, Answers | None] | None:
    """Return the student's and the teacher's answers on `val`, where a temperature is fitted.

    None if `val` itself is scored, or none of its images has a label: then there is nothing to fit it on.
    """
    if split == "val":
        return None
    images = subject.images("val")
    if (subject.word_of_class[images.labels] < 0).all():
        return None
    rows = student_rows(subject, images, embed_images, "evaluate val")
    return Answers(subject, images, rows, None), of_teacher(subject, "val", images)
