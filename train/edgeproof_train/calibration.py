"""Calibration: are probabilities as right as they claim to be, and the one number that mends most of it.

All functions take class scores (logits) (N, K) and labels (N,); rows with a negative label are left out.
"""

from __future__ import annotations

import math

import numpy as np

BINS = 15
LOWEST, HIGHEST = 1e-2, 1e2
STEPS = 200


def probabilities(logits_NK: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Return `softmax(logits / temperature)`, float64 (N, K)."""
    return np.exp(log_probabilities(logits_NK, temperature))


def log_probabilities(logits_NK: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Return `log softmax(logits / temperature)`, float64 (N, K)."""
    scaled = np.asarray(logits_NK, np.float64) / temperature
    scaled = scaled - scaled.max(axis=1, keepdims=True)
    return scaled - np.log(np.exp(scaled).sum(axis=1, keepdims=True))


def calibration_metrics(
    logits_NK: np.ndarray, labels_N: np.ndarray, temperature: float = 1.0, bins: int = BINS
) -> dict[str, float]:
    """Return `ece` (bins of equal width), `ece_equal_mass`, `nll` and `brier`.

    `nll` is the mean of `-log p_y`; `brier` the mean of `sum_k (p_k - 1[k = y])^2`, from 0 to 2.

    Raises:
        ValueError: no row has a label, or shapes do not fit.
    """
    logits, labels = _labelled(logits_NK, labels_N)
    log_p = log_probabilities(logits, temperature)
    p = np.exp(log_p)
    confidence, right = p.max(axis=1), p.argmax(axis=1) == labels
    target = np.eye(p.shape[1])[labels]
    return {
        "ece": ece(confidence, right, bins),
        "ece_equal_mass": ece_equal_mass(confidence, right, bins),
        "nll": float(-log_p[np.arange(len(labels)), labels].mean()),
        "brier": float(((p - target) ** 2).sum(axis=1).mean()),
    }


def ece(confidence_N: np.ndarray, right_N: np.ndarray, bins: int = BINS) -> float:
    """Return the expected calibration error, `sum_b n_b / N |share right in b - mean confidence in b|`.

    Bin b of equal width holds the confidences in (b / bins, (b + 1) / bins] (arXiv 1706.04599).
    """
    place = np.ceil(np.asarray(confidence_N) * bins).astype(np.int64) - 1
    gaps = np.asarray(right_N, np.float64) - np.asarray(confidence_N)
    sums = np.bincount(place.clip(0, bins - 1), weights=gaps, minlength=bins)
    return float(np.abs(sums).sum() / len(gaps))


def ece_equal_mass(confidence_N: np.ndarray, right_N: np.ndarray, bins: int = BINS) -> float:
    """Return the same with bins of equally many images, in the order of their confidence."""
    order = np.argsort(confidence_N, kind="stable")
    gaps = (np.asarray(right_N, np.float64) - np.asarray(confidence_N))[order]
    return float(sum(abs(part.sum()) for part in np.array_split(gaps, bins)) / len(gaps))


def fit_temperature(logits_NK: np.ndarray, labels_N: np.ndarray) -> float:
    """Return the temperature with the least `nll` on these images (arXiv 1706.04599); fit it on `val`.

    With b = 1 / T the nll is convex; its slope is the mean of `sum_k p_k z_k - z_y`. Newton's steps on b,
    inside an interval that halves where they leave it. Where the slope keeps its sign, because every image is
    right or the scores are no better than chance, the nearest end of 0.01 to 100 is returned. The order of
    the classes, and with it accuracy, does not change.

    Raises:
        ValueError: as `calibration_metrics`.
    """
    logits, labels = _labelled(logits_NK, labels_N)
    logits = logits - logits.mean(axis=1, keepdims=True)
    own = logits[np.arange(len(labels)), labels]
    low, high = 1 / HIGHEST, 1 / LOWEST
    if _slope(logits, own, low)[0] >= 0:
        return HIGHEST
    if _slope(logits, own, high)[0] <= 0:
        return LOWEST
    inverse = 1.0
    for _ in range(STEPS):
        slope, curvature = _slope(logits, own, inverse)
        low, high = (low, inverse) if slope > 0 else (inverse, high)
        proposed = inverse - slope / curvature if curvature > 0 else math.nan
        following = proposed if low < proposed < high else (low + high) / 2
        if abs(following - inverse) <= 1e-12 * inverse:
            break
        inverse = following
    return 1 / inverse


def _slope(logits: np.ndarray, own: np.ndarray, inverse: float) -> tuple[float, float]:
    """Return first and second derivative of the nll by 1 / T."""
    p = probabilities(logits, 1 / inverse)
    mean = (p * logits).sum(axis=1)
    spread = (p * (logits - mean[:, None]) ** 2).sum(axis=1)
    return float((mean - own).mean()), float(spread.mean())


def _labelled(logits_NK: np.ndarray, labels_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    logits, labels = np.asarray(logits_NK, np.float64), np.asarray(labels_N)
    if logits.ndim != 2 or labels.shape != (len(logits),):
        raise ValueError(f"expected scores (N, K) and labels (N,), got {logits.shape} and {labels.shape}")
    known = labels >= 0
    if not known.any():
        raise ValueError("no image has a label: calibration cannot be measured")
    if labels.max() >= logits.shape[1]:
        raise ValueError(f"labels must be below {logits.shape[1]}, got {labels.max()}")
    if not np.isfinite(logits[known]).all():
        raise ValueError("some scores are not finite")
    return logits[known], labels[known]
