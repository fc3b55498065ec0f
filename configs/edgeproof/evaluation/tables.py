"""What an evaluation leaves in its folder: tables of classes and images, and the embeddings."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from sklearn.metrics import precision_recall_fscore_support

from edgeproof_configs.files import atomic_open, write_text
from edgeproof_data.sets import ImageSet
from edgeproof_train.metrics import confusion


def write_csv(file: Path, head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a table atomically."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows([head, *rows])
    write_text(file, text.getvalue())


def write_classes(file: Path, names: Sequence[str], true: np.ndarray, predicted: np.ndarray) -> None:
    """Write for each class that occurs among true or predicted ones: images, right, precision, recall, F1."""
    occurring = np.unique(np.concatenate([true, predicted]))
    precision, recall, f1, images = precision_recall_fscore_support(
        true,
        predicted,
        labels=occurring,
        zero_division=0,  # pyright: ignore[reportArgumentType]
    )
    rows = [
        (
            names[label],
            int(np.asarray(images)[i]),
            int(((true == label) & (predicted == label)).sum()),
            *(f"{np.asarray(column)[i]:.6f}" for column in (precision, recall, f1)),
        )
        for i, label in enumerate(occurring)
    ]
    write_csv(file, ("class", "images", "right", "precision", "recall", "f1"), rows)


def write_confusion(file: Path, names: Sequence[str], true: np.ndarray, predicted: np.ndarray) -> None:
    """Write counts, row = true class, column = predicted class, for those classes that occur as either."""
    occurring = np.unique(np.concatenate([true, predicted]))
    place = np.searchsorted(occurring, true), np.searchsorted(occurring, predicted)
    counts = confusion(*place, len(occurring))
    told: list[str] = [names[int(label)] for label in occurring]
    write_csv(file, ["true \\ predicted", *told], ((name, *row) for name, row in zip(told, counts.tolist())))


def write_images(
    folder: Path,
    paths: Sequence[str],
    names: Sequence[str],
    true: np.ndarray,
    predicted: np.ndarray,
    probability: np.ndarray,
) -> None:
    """Write `right.csv` and `wrong.csv`, the surest answers first.

    Args:
        folder: where to.
        paths: N images, relative to the data's root.
        names: of the labels.
        true: (N,) rows among the names.
        predicted: (N,) likewise.
        probability: (N,) of what was predicted.
    """
    order = np.argsort(-probability, kind="stable")
    for file, chosen in (("right.csv", true == predicted), ("wrong.csv", true != predicted)):
        rows = [
            (paths[i], names[int(true[i])], names[int(predicted[i])], f"{probability[i]:.6f}")
            for i in order
            if chosen[i]
        ]
        write_csv(folder / file, ("path", "true", "predicted", "probability"), rows)


def write_features(folder: Path, features: np.ndarray, images: ImageSet, name: str = "features") -> None:
    """Write `features.npy` (N, D), not normalised, and `features.csv` with path and label of each row."""
    with atomic_open(folder / f"{name}.npy") as handle:
        np.save(handle, features)
    labels = ["" if label < 0 else images.class_names[label] for label in images.labels]
    write_csv(folder / f"{name}.csv", ("path", "label"), zip(images.paths, labels, strict=True))
