"""What a student finds on a split: accuracies, searches, cosine to its teacher; and what chooses an epoch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from edgeproof_data.sets import ImageSet, SplitName
from edgeproof_train.embeddings import embed_images
from edgeproof_train.metrics import classifier_metrics, zero_shot_metrics
from edgeproof_train.object_figures import search_figures
from edgeproof_train.run_data import RunData
from edgeproof_train.student import Student
from edgeproof_train.task import DistillTask

CLASSIFIER = "label_cross_entropy"
"""The loss that classifies by a layer of its own."""


def evaluation(data: RunData, split: SplitName, task: DistillTask | None = None) -> Any:
    """Return a function that scores a student on a split: accuracies, searches, and cosine to a teacher.

    In training under `torchrun` the first process alone calls it, on all images, and tells the others
    (`Keeper`); the command `evaluate` is what shares the images of a split.
    """
    del task
    images = data.split(split)
    labels, words = scored_labels(data, images), data.words()
    teacher = data.teacher_rows(split, images) if data.has_teacher else None

    def evaluate(student: Student) -> dict[str, float]:
        rows = embed_images(student, images, device=data.context.device)
        found = zero_shot_metrics(rows, labels, words.matrix, words.names, data.source.unseen, teacher)
        return found | searched_by(data, split, images, rows, student)

    return evaluate


def searched_by(
    data: RunData, split: SplitName, images: ImageSet, rows: np.ndarray, student: Student
) -> dict[str, float]:
    """Return how well a student's embeddings find what is of one class, where that is asked for."""
    if not searches(data):
        return {}
    return search_figures(
        data, split, images, rows, lambda _, others: embed_images(student, others, device=data.context.device)
    )


def searches(data: RunData) -> bool:
    """Whether objects are to find others of their class: where there are objects, or this selects."""
    return data.source.of_objects or data.recipe.train.select == "map"


def scored_labels(data: RunData, images: ImageSet) -> np.ndarray:
    """Return the row of each image's class in the head's words; -1 where no words can score it yet."""
    if not data.scored_by_words:
        return np.full(len(images), -1, np.int64)
    return data.word_labels(images)


def teacher_metrics(data: RunData, split: SplitName) -> dict[str, float]:
    """Return the teacher's own accuracies on a split; none where there is no teacher."""
    if not data.has_teacher:
        return {}
    images = data.split(split)
    labels, words = scored_labels(data, images), data.words()
    rows = data.teacher_rows(split, images)
    found = zero_shot_metrics(rows, labels, words.matrix, words.names, data.source.unseen)
    return found | (search_figures(data, split, images, rows, data.teacher_rows) if searches(data) else {})


def baseline_evaluation(data: RunData, split: SplitName, task: DistillTask) -> Any:
    """Return a function that scores a student that has no teacher.

    It is scored through the classifier that its label loss trains, where it has one; as one that searches
    where this is asked for, or where there is nothing else.
    """
    images = data.split(split)

    def evaluate(student: Student) -> dict[str, float]:
        found: dict[str, float] = {}
        classifier: Any = dict(task.losses.items()).get(CLASSIFIER)
        if classifier is not None:
            found = classifier_scores(data, images, student, classifier.classifier)
        if classifier is None or searches(data):
            rows = embed_images(student, images, device=data.context.device)
            found |= search_figures(
                data,
                split,
                images,
                rows,
                lambda _, others: embed_images(student, others, device=data.context.device),
            )
        return found

    return evaluate


def classifier_scores(
    data: RunData, images: ImageSet, student: Student, classifier: torch.nn.Linear
) -> dict[str, float]:
    """Return the accuracies of a student with a linear classifier over the classes of the data."""
    rows = torch.from_numpy(embed_images(student, images, device=data.context.device))
    with torch.inference_mode():
        scores = classifier.cpu()(rows).numpy()
    return classifier_metrics(scores, images.labels, data.source.class_names, data.source.unseen)


def chosen_by(data: RunData, baseline: DistillTask | None = None) -> str:
    """Return the figure on val that chooses the best epoch where the recipe does not say.

    Args:
        data: of the run.
        baseline: the task of normal training, if it is that.
    """
    if data.source.of_objects and data.source.class_names:
        return "map"
    if baseline is not None and not data.class_scores and CLASSIFIER not in baseline.losses:
        return "map"
    return "top1" if baseline is not None or counts_top1(data) else "cosine_mean"


def counts_top1(data: RunData) -> bool:
    """Whether accuracy on val can be counted while the student trains."""
    labelled = data.source.of_objects or (data.source.split("val").labels >= 0).any()
    return bool(data.source.class_names) and data.scored_by_words and bool(labelled)
