"""Soft labels of images by their cosines to text, and how to make them occur as often as classes should."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from edgeproof_train.heads.proxies import row_blocks

KEPT_BYTES = 256 * 2**20
"""Soft labels are kept in memory up to this size, and computed anew for each pass above it."""
LARGEST = 1e30
"""Bound on the factor of a column; one whose mass is smaller than its inverse is as good as empty."""


class SoftLabels:
    """`p_i = softmax(x_i T' / t)`, in blocks of rows.

    Args:
        features_ND: unit rows.
        text_KD: unit rows.
        temperature: t.
    """

    def __init__(self, features_ND: np.ndarray, text_KD: np.ndarray, temperature: float):
        self.features = np.asarray(features_ND, np.float32)
        self.sharp = np.ascontiguousarray(text_KD.T / temperature, np.float32)
        self.count, self.classes = len(self.features), len(text_KD)
        self._kept: list[np.ndarray] | None = None
        if 4 * self.count * self.classes <= KEPT_BYTES:
            self._kept = [self._rows(rows) for rows in row_blocks(self.count, self.classes)]

    def blocks(self) -> Iterator[tuple[slice, np.ndarray]]:
        """Yield rows and their probabilities (n, K), float32; not to be written to."""
        for number, rows in enumerate(row_blocks(self.count, self.classes)):
            yield rows, self._rows(rows) if self._kept is None else self._kept[number]

    def masses(self) -> np.ndarray:
        """Return the mean probability of each class (K,), float64."""
        return column_means(self.blocks(), self.classes)

    def rows(self, chosen: np.ndarray) -> np.ndarray:
        """Return the probabilities of some images, float64."""
        return np.concatenate(
            [self._rows(chosen[part]) for part in row_blocks(len(chosen), self.classes)]
        ).astype(np.float64)

    def _rows(self, rows: slice | np.ndarray) -> np.ndarray:
        scores = self.features[rows] @ self.sharp
        scores -= scores.max(axis=1, keepdims=True)
        np.exp(scores, out=scores)
        scores /= scores.sum(axis=1, keepdims=True)
        return scores


def column_means(blocks: Iterator[tuple[slice, np.ndarray]], classes: int) -> np.ndarray:
    """Return the mean (K,) over all rows of some blocks, float64."""
    sums, count = np.zeros(classes), 0
    for _, part in blocks:
        sums += part.sum(axis=0, dtype=np.float64)
        count += len(part)
    return sums / count


def column_factors(labels: SoftLabels, marginal_K: np.ndarray, iterations: int = 20) -> np.ndarray:
    """Return the factors v (K,) of Sinkhorn's balance: rows of `P v`, normalised, average to the marginal.

    Each iteration scales columns to the marginal, then rows to 1; rows come last and are exact. A column
    without mass stays as it is.
    """
    factors, masses = np.ones(labels.classes), labels.masses()
    for _ in range(iterations):
        filled = masses > 1 / LARGEST
        change = np.divide(marginal_K, masses, out=np.ones_like(masses), where=filled)
        if np.abs(masses - marginal_K).max() < 1e-9:
            break
        factors = np.clip(factors * change, 0, LARGEST)
        masses = column_means(balanced(labels, factors), labels.classes)
    return factors


def balanced(labels: SoftLabels, factors_K: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield rows and their probabilities times the factors, normalised; a row that loses all stays."""
    scale = factors_K.astype(np.float32)
    for rows, part in labels.blocks():
        scaled = part * scale
        totals = scaled.sum(axis=1, keepdims=True)
        lost = totals[:, 0] <= 0
        if lost.any():
            scaled[lost], totals[lost] = part[lost], 1
        yield rows, scaled / totals


def class_sums(labels: SoftLabels, factors_K: np.ndarray, confident: float) -> np.ndarray:
    """Return `sum_i q_i x_i'` (K, D) float32, q the balanced labels, one-hot where above `confident`."""
    sums = np.zeros((labels.classes, labels.features.shape[1]), np.float32)
    for rows, part in balanced(labels, factors_K):
        sure = np.flatnonzero(part.max(axis=1) > confident)
        winners = part[sure].argmax(axis=1)
        part[sure] = 0
        part[sure, winners] = 1
        sums += part.T @ labels.features[rows]
    return sums
