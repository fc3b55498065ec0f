"""Precision, recall and F1 of each class."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from sklearn.metrics import precision_recall_fscore_support


def class_figures(
    true: np.ndarray, predicted: np.ndarray, names: Sequence[str], unseen: Collection[str] = ()
) -> list[dict[str, Any]]:
    """Return what scikit-learn counts for each class that has images, the lowest F1 first.

    Args:
        true: (N,) positions among the names, none of them -1.
        predicted: (N,) likewise.
        names: K classes.
        unseen: those that were held out of training.

    Returns:
        `{"name", "precision", "recall", "f1", "images", "seen"}`; the precision of a class that is never
        answered is None.
    """
    occurring = np.unique(true)
    precision, recall, f1, images = (
        np.asarray(column)
        for column in precision_recall_fscore_support(
            true,
            predicted,
            labels=occurring,
            zero_division=0,  # pyright: ignore[reportArgumentType]
        )
    )
    answered = np.isin(occurring, predicted)
    rows = [
        {
            "name": names[label],
            "precision": round(float(precision[i]), 6) if answered[i] else None,
            "recall": round(float(recall[i]), 6),
            "f1": round(float(f1[i]), 6),
            "images": int(images[i]),
            "seen": names[label] not in unseen,
        }
        for i, label in enumerate(occurring.tolist())
    ]
    return sorted(rows, key=lambda row: (row["f1"], row["recall"], row["name"]))
