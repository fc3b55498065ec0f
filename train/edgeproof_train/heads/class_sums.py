"""Sums of features class by class."""

from __future__ import annotations

import numpy as np

from edgeproof_train.heads.evidence import Rows


def class_means(rows: Rows, classes: int) -> np.ndarray:
    """Return the mean feature of each class, (K, D) float64; every class has a row."""
    return class_sums(*rows, classes) / np.bincount(rows.labels, minlength=classes)[:, None]


def class_sums(rows_NM: np.ndarray, labels_N: np.ndarray, classes: int) -> np.ndarray:
    """Return the sum of the rows of each class, (K, M) float64; every class has a row."""
    order = np.argsort(labels_N, kind="stable")
    starts = np.searchsorted(labels_N[order], np.arange(classes))
    return np.add.reduceat(rows_NM[order], starts, axis=0, dtype=np.float64)
