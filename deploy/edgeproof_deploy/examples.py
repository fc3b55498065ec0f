"""Some test images with their answers, and what speaks for the answers."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgeproof_data.loader import eval_batches
from edgeproof_data.objects import ObjectSet
from edgeproof_deploy.answers import Answers, spread
from edgeproof_deploy.decisions import Vocabulary
from edgeproof_deploy.grad_cam import COARSEST, grad_cam, overlay
from edgeproof_deploy.runtime.linear_head import LinearHead
from edgeproof_deploy.runtime.preprocess import open_image
from edgeproof_train.student import Student

THUMBNAIL_PIXELS = 96
RIGHT, WRONG = 12, 12
TOP = 3
MOST_MAPS = 6
"""Examples that get a Grad-CAM: each adds about two kilobytes to the report."""


def examples(answers: Answers) -> list[dict[str, Any]]:
    """Return some test images with their answers, a few of them with a Grad-CAM."""
    vocabulary = answers.vocabulary
    right, labelled = answers.predicted == vocabulary.labels, vocabulary.labels >= 0
    chosen = choose(right, labelled)
    shares = answers.probabilities(chosen)
    shown = [example(answers, int(i), share) for i, share in zip(chosen, shares, strict=True)]
    explained = with_map(right[chosen], labelled[chosen])
    heat = heat_maps(answers, chosen[explained])
    for place, cam in zip(explained.tolist(), heat, strict=True):
        shown[place]["cam"] = cam
    return shown


def choose(right: np.ndarray, labelled: np.ndarray) -> np.ndarray:
    """Return positions of examples, spread over the set: right and wrong ones, or any if unlabelled."""
    if not labelled.any():
        return spread(np.arange(len(right)), RIGHT + WRONG)
    wrong = spread(np.flatnonzero(labelled & ~right), WRONG)
    return np.sort(np.concatenate([wrong, spread(np.flatnonzero(labelled & right), RIGHT)]))


def with_map(right: np.ndarray, labelled: np.ndarray) -> np.ndarray:
    """Return which of the chosen examples get a Grad-CAM: half of them wrong ones where there are so many."""
    wrong = spread(np.flatnonzero(labelled & ~right), MOST_MAPS // 2)
    others = np.setdiff1d(np.arange(len(right)), np.flatnonzero(labelled & ~right))
    return np.sort(np.concatenate([wrong, spread(others, MOST_MAPS - len(wrong))]))


def heat_maps(answers: Answers, at: np.ndarray) -> list[dict[str, Any]]:
    """Return for some images what speaks for their first answer, in the student in PyTorch.

    Of objects it is what speaks for it in the first view.

    Returns:
        `{"jpeg": base64, "node", "cells": [h, w]}` for each, or `{"reason"}` where the student has no map,
        or its head no gradient here.
    """
    vocabulary = answers.vocabulary
    score = score_of(vocabulary, torch.from_numpy(answers.predicted[at]))
    if score is None:
        return [{"reason": "the head is no single matrix: it has no gradient here"} for _ in at]
    student = Student.load(answers.data.context.run.stage("train"))
    images = answers.data.split("test").subset(at)
    if isinstance(images, ObjectSet):
        # Each view has a map of its own: the first one's is shown, as if the object had no other.
        images = images.showing(1)
    seen = next(eval_batches(images, student.preprocess, batch_size=len(at)))["image"]
    seen = seen[:, 0] if seen.ndim == 5 else seen
    found = grad_cam(student, seen, score)
    if found is None:
        reason = f"the student has no feature map of at least {COARSEST} x {COARSEST} cells"
        return [{"reason": reason} for _ in at]
    cells = list(found.maps.shape[1:])
    return [
        {"jpeg": overlay(image, heat, student.preprocess), "node": found.node, "cells": cells}
        for image, heat in zip(seen, found.maps, strict=True)
    ]


def score_of(vocabulary: Vocabulary, labels: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor] | None:
    """Return the function from embeddings (N, D) to the score (N,) of one label each.

    Args:
        vocabulary: says what decides.
        labels: int64 (N,), rows of the vocabulary.

    Returns:
        None where a fitted head decides that is not one matrix.
    """
    if vocabulary.class_scores:
        return lambda embedding: embedding.gather(1, labels[:, None])[:, 0]
    if vocabulary.head is None:
        text = torch.from_numpy(vocabulary.text).float()
        return lambda embedding: torch.cosine_similarity(embedding, text[labels])
    if not isinstance(vocabulary.head, LinearHead):
        return None
    weight = torch.from_numpy(vocabulary.head.weight).float()
    return lambda embedding: (torch.nn.functional.normalize(embedding, dim=1) * weight[labels]).sum(1)


def example(answers: Answers, index: int, shares: np.ndarray) -> dict[str, Any]:
    """Return one test image with its best labels and their probabilities (K,)."""
    vocabulary = answers.vocabulary
    best = np.argsort(-shares, kind="stable")[:TOP]
    label = int(vocabulary.labels[index])
    true = vocabulary.names[label] if label >= 0 else None
    return {
        "path": vocabulary.paths[index],
        "thumbnail": thumbnail(answers.data.split("test").file(index)),
        "true": true,
        "top": [[vocabulary.names[i], round(float(shares[i]), 4)] for i in best],
        "seen": true not in vocabulary.unseen,
    }


def thumbnail(file: Path) -> str:
    """Return a small JPEG of an image in base64."""
    image = open_image(file)
    image.thumbnail((THUMBNAIL_PIXELS, THUMBNAIL_PIXELS))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85)
    return base64.b64encode(buffer.getvalue()).decode()
