"""What the forms of a run are compared with: chance, the untrained student, normal training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from edgeproof_data.sets import ImageSet
from edgeproof_deploy.decisions import Vocabulary
from edgeproof_deploy.parity import Form
from edgeproof_train.distil import new_student, seed_everything
from edgeproof_train.embeddings import embed_images
from edgeproof_train.keeper import LOSSES_FILE
from edgeproof_train.run_data import RunData
from edgeproof_train.scoring import classifier_scores
from edgeproof_train.student import Student

CLASSIFIER = "label_cross_entropy.classifier"


def controls(
    data: RunData,
    vocabulary: Vocabulary,
    searched: Callable[[Form], dict[str, float]],
    sets: tuple[ImageSet, ImageSet | None],
    teacher: Form | None,
) -> list[dict[str, Any]]:
    """Return rows to compare with: chance, the student before training, normal training on labels.

    Args:
        data: of the run.
        vocabulary: what is true of the images.
        searched: returns what a search with a form finds.
        sets: the images, and a gallery if there is one.
        teacher: what it gave; None where there is none.
    """
    rows: list[dict[str, Any]] = []
    device, (images, gallery) = data.context.device, sets

    def found_by(student: Student, embeddings: np.ndarray) -> dict[str, float]:
        others = None if gallery is None else embed_images(student, gallery, device=device)
        return searched(Form("control", embeddings=embeddings, gallery=others))

    if (vocabulary.labels >= 0).any():
        count = len(vocabulary.names)
        chance = {"top1": 1 / count, "top5": min(5 / count, 1.0), "mean_per_class": 1 / count}
        rows.append({"form": "chance", "metrics": chance})
    seed_everything(data.recipe.train.seed)
    student = new_student(data).eval()
    untrained = embed_images(student, images, device=device)
    metrics = vocabulary.metrics(untrained, teacher.embeddings if teacher else None)
    rows.append({"form": "untrained student", "metrics": metrics | found_by(student, untrained)})
    baseline = data.context.run.stage("baseline")
    if data.recipe.baseline is not None and data.context.run.record("baseline") is not None:
        student = Student.load(baseline)
        if data.class_scores:
            metrics = vocabulary.metrics(embed_images(student, images, device=device))
        elif has_classifier(baseline):
            metrics = classifier_scores(data, images, student, read_classifier(baseline))
        else:
            metrics = {}
        if vocabulary.of_objects:
            metrics |= found_by(student, embed_images(student, images, device=device))
        rows.append({"form": "baseline", "metrics": metrics})
    return rows


def has_classifier(folder: Path) -> bool:
    """Whether normal training left a classifier beside its student; other losses than its own leave none."""
    file = folder / LOSSES_FILE
    return file.is_file() and f"{CLASSIFIER}.weight" in load_file(file)


def read_classifier(folder: Path) -> torch.nn.Linear:
    """Return the linear classifier that normal training left beside its student."""
    tensors = load_file(folder / LOSSES_FILE)
    weight, bias = tensors[f"{CLASSIFIER}.weight"], tensors[f"{CLASSIFIER}.bias"]
    classifier = torch.nn.Linear(weight.shape[1], weight.shape[0])
    classifier.load_state_dict({"weight": weight, "bias": bias})
    return classifier
