"""Weights of several classifiers, of one backbone or of many, chosen on validation.

Each classifier gives probabilities (N, K) of the same images over the same classes, so that it does not
matter which embeddings they were made of.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.optimize import minimize, minimize_scalar

STEPS, TOLERANCE = 500, 1e-9
PRIOR_IMAGES = 4.0
"""How many images of validation the wish for equal weights counts as, for each classifier."""
TINY = 1e-12
LOG_FACTORS = (-7.0, 7.0)


def choose_weights(
    probabilities: Sequence[np.ndarray], labels_N: np.ndarray, prior: float = PRIOR_IMAGES
) -> np.ndarray:
    """Return weights (M,), not below 0 and of sum 1, under which the mixture finds the labels likeliest.

    They maximise `sum_i log sum_m w_m p_m(y_i) + prior sum_m log w_m` by expectation-maximisation: an image
    is shared out among the classifiers by `w_m p_m(y_i)`, and a weight is what a classifier has then, with
    `prior` images of its own. The first term alone is that of stacking; the second holds the weights
    together where there are few images.

    Args:
        probabilities: M arrays (N, K).
        labels_N: true columns.
        prior: how many images each classifier has from the start; 0 for none.

    Raises:
        ValueError: there are no rows, or shapes do not fit.
    """
    own = own_shares(probabilities, labels_N)
    weights = np.full(len(own), 1 / len(own))
    for _ in range(STEPS):
        shares = weights[:, None] * own
        following = (shares / shares.sum(axis=0)).sum(axis=1) + prior
        following /= following.sum()
        moved = np.abs(following - weights).max()
        weights = following
        if moved < TOLERANCE:
            break
    return weights


def own_shares(probabilities: Sequence[np.ndarray], labels_N: np.ndarray) -> np.ndarray:
    """Return what each classifier gives the true class of each image, (M, N), never quite 0."""
    shapes = {np.shape(part) for part in probabilities}
    labels = np.asarray(labels_N)
    if len(shapes) != 1 or labels.shape != next(iter(shapes))[:1] or not len(labels):
        told = ", ".join(map(str, sorted(shapes)))
        raise ValueError(f"expected probabilities (N, K) of the same images and N labels, got {told}")
    rows = np.arange(len(labels))
    return np.stack([np.asarray(part, np.float64)[rows, labels] for part in probabilities]) + TINY


def combined(probabilities: Sequence[np.ndarray], weights_M: Sequence[float] | np.ndarray) -> np.ndarray:
    """Return `sum_m w_m p_m`, (N, K) float64; weights are divided by their sum.

    Raises:
        ValueError: there is not a weight for each, one is below 0, or all are 0.
    """
    weights = np.asarray(weights_M, np.float64)
    if weights.shape != (len(probabilities),) or weights.min(initial=0) < 0 or not weights.any():
        raise ValueError(f"{len(probabilities)} classifiers and weights {weights}")
    return np.tensordot(weights / weights.sum(), np.stack(probabilities), axes=1)


def choose_z_weights(scores: Sequence[np.ndarray], labels_N: np.ndarray) -> np.ndarray:
    """Return factors (M,), not below 0, under which the sum of standardised scores finds the labels.

    They maximise the mean of `log softmax(sum_m v_m z_m)_y`, a concave function. As in `choose_sharpness` one
    image is added, here one that says nothing, so that factors stay finite. The sum of the factors says how
    sharp the scores are.

    Args:
        scores: M arrays (N, K), each of mean 0 and standard deviation 1 over the classes.
        labels_N: true columns.

    Raises:
        ValueError: there are no rows, or shapes do not fit.
    """
    stacked, labels = np.stack([np.asarray(part, np.float64) for part in scores]), np.asarray(labels_N)
    if stacked.ndim != 3 or labels.shape != stacked.shape[1:2] or not len(labels):
        raise ValueError(f"expected scores (M, N, K) and labels (N,), got {stacked.shape} and {labels.shape}")
    told = stacked[:, np.arange(len(labels)), labels].mean(axis=1) * len(labels) / (len(labels) + 1)

    def loss(factors: np.ndarray) -> tuple[float, np.ndarray]:
        logits = np.tensordot(factors, stacked, axes=1)
        highest = logits.max(axis=1, keepdims=True)
        raised = np.exp(logits - highest)
        total = raised.sum(axis=1, keepdims=True)
        slope = np.einsum("mnk,nk->m", stacked, raised / total) / len(labels)
        return float((highest + np.log(total)).mean() - factors @ told), slope - told

    start = np.full(len(stacked), 1 / len(stacked))
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=[(0.0, None)] * len(stacked))
    return found.x if found.x.any() else start


def choose_sharpness(logits_NK: np.ndarray, labels_N: np.ndarray) -> float:
    """Return the factor 1 / temperature under which logits find the labels likeliest (arXiv 1706.04599).

    One image is added that is spread over all and says the best class other than the true one: scores that
    are right for every image would be made sharp without end.

    Raises:
        ValueError: there are no rows, or shapes do not fit.
    """
    logits, labels = np.asarray(logits_NK, np.float64), np.asarray(labels_N)
    if logits.ndim != 2 or labels.shape != (len(logits),) or not len(labels):
        raise ValueError(f"expected scores (N, K) and labels (N,), got {logits.shape} and {labels.shape}")
    rows = np.arange(len(labels))
    own = logits[rows, labels]
    others = logits.copy()
    others[rows, labels] = -np.inf
    noise = 1 / (len(labels) + 1)
    told = (1 - noise) * own + noise * others.max(axis=1)

    def loss(log_factor: float) -> float:
        scaled = logits * np.exp(log_factor)
        highest = scaled.max(axis=1)
        total = highest + np.log(np.exp(scaled - highest[:, None]).sum(axis=1))
        return float((total - told * np.exp(log_factor)).mean())

    found: Any = minimize_scalar(loss, bounds=LOG_FACTORS, method="bounded")
    return float(np.exp(found.x))
