"""What the report shows of the verification: classes, calibration, examples, the space of the embeddings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edgeproof_configs.files import write_json
from edgeproof_deploy.answers import Answers, spread
from edgeproof_deploy.examples import examples
from edgeproof_deploy.reliability import reliability
from edgeproof_deploy.retrieval_pictures import retrieval_pictures
from edgeproof_deploy.verify import Verification
from edgeproof_train.knn import fair_neighbours, knn_metrics
from edgeproof_train.metrics import confusion
from edgeproof_train.run_data import RunData

MOST_NEIGHBOURS = 5000
"""Images that are compared with one another; more would take minutes."""
MOST_CONFUSED = 2000
"""Labels that are counted against one another: their matrix has the square of it as numbers."""
BLOCK = 1 << 22
"""Probabilities that are held at once."""


def write_pictures(data: RunData, found: Verification, folder: Path) -> list[Path]:
    """Write what the report draws, each file where there is something to draw, and return what was written.

    `examples.json` always; `confusion.json`, `per_class.json` and `calibration.json` where images have
    labels, the first of them up to `MOST_CONFUSED`; `embedding.json` where there are directions to draw;
    `retrieval.json` where objects search each other.
    """
    answers = Answers(data, found)
    contents: dict[str, Any] = {"examples": examples(answers)}
    if len(answers.labelled):
        contents["confusion"] = confusion_counts(answers)
        contents["per_class"] = per_class(answers)
        contents["calibration"] = calibration(answers)
    contents["embedding"] = embedding_space(answers)
    contents["retrieval"] = retrieval_pictures(answers)
    written = []
    for name, content in contents.items():
        if content is not None:
            written.append(folder / f"{name}.json")
            write_json(written[-1], content)
    return written


def confusion_counts(answers: Answers) -> dict[str, Any] | None:
    """Return the counts of true against predicted labels; None where very many labels occur."""
    vocabulary, at = answers.vocabulary, answers.labelled
    true, predicted = vocabulary.labels[at], answers.predicted[at]
    present = np.unique(np.concatenate([true, predicted]))
    if len(present) > MOST_CONFUSED:
        return None
    places = np.searchsorted(present, true), np.searchsorted(present, predicted)
    return {
        "labels": [vocabulary.names[i] for i in present],
        "matrix": confusion(*places, len(present)).tolist(),
        "unseen": list(vocabulary.unseen),
        "form": answers.found.shipped,
    }


def per_class(answers: Answers) -> dict[str, Any]:
    """Return precision, recall and F1 of each class that has images."""
    from edgeproof_deploy.class_figures import class_figures

    vocabulary, at = answers.vocabulary, answers.labelled
    true, predicted = vocabulary.labels[at], answers.predicted[at]
    classes = class_figures(true, predicted, vocabulary.names, vocabulary.unseen)
    return {"form": answers.found.shipped, "classes": classes}


def calibration(answers: Answers) -> dict[str, Any]:
    """Return how far the probabilities of the first answers can be believed, no temperature applied."""
    at = answers.labelled
    step = max(BLOCK // len(answers.vocabulary.names), 1)
    blocks = [at[start : start + step] for start in range(0, len(at), step)]
    confidence = np.concatenate([answers.probabilities(block).max(axis=1) for block in blocks])
    right = answers.predicted[at] == answers.vocabulary.labels[at]
    return {"form": answers.found.shipped, **reliability(confidence, right)}


def nearest_neighbours(answers: Answers) -> dict[str, Any] | None:
    """Return how often an image's nearest neighbours among the other test images are of its class.

    Near is what has near embeddings, or near features where classes are scored (`Answers.features`). Images
    without a direction are left out, and of very many images all but an even part.
    """
    at = spread(answers.labelled, MOST_NEIGHBOURS)
    if len(at) < 2:
        return None
    rows = answers.features(at)
    at, rows = at[rows.any(axis=1)], rows[rows.any(axis=1)]
    occurring, labels = np.unique(answers.vocabulary.labels[at], return_inverse=True)
    k = fair_neighbours(labels)
    if k < 1:
        return None
    found = knn_metrics(rows, labels, classes=len(occurring), k=k)
    return {"nearest": found["knn1"], "accuracy": found[f"knn{k}"], "neighbours": k, "images": len(at)}


def embedding_space(answers: Answers) -> dict[str, Any] | None:
    """Return pictures of the embeddings of the images, of a part of them where there are many."""
    from edgeproof_deploy.embedding_picture import MOST_POINTS, embedding_pictures

    vocabulary, rows = answers.vocabulary, answers.found.embeddings
    shown = spread(np.arange(len(rows)), MOST_POINTS)
    pictures = embedding_pictures(rows[shown])
    if not pictures:
        return None
    occurring, places = np.unique(vocabulary.labels[shown], return_inverse=True)
    labels = [vocabulary.names[label] if label >= 0 else None for label in occurring.tolist()]
    return {
        "form": answers.found.shipped,
        "space": "class scores" if vocabulary.class_scores else "embeddings",
        "dimensions": rows.shape[1],
        "images": len(rows),
        "labels": labels,
        "unseen": [label for label in labels if label in vocabulary.unseen],
        "label": places.tolist(),
        "knn": nearest_neighbours(answers),
        "pictures": pictures,
    }
