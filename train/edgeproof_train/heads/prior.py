"""How often each class occurs among images without labels, from the probabilities that a head gives them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

LEAST = 1e-300
"""What a probability of zero counts as in a logarithm."""


class Prior(NamedTuple):
    """An estimated class prior.

    Attributes:
        prior: (K,) float64, sums to 1.
        trace: log-posterior over the number of images, before the first step and after each; never falls.
        converged: whether the last step moved less than the tolerance.
    """

    prior: np.ndarray
    trace: tuple[float, ...]
    converged: bool


def estimate_prior(
    probabilities_NK: np.ndarray,
    start_K: np.ndarray | None = None,
    *,
    strength: float = 1.0,
    iterations: int = 100,
    tolerance: float = 1e-6,
) -> Prior:
    """Return the prior under which the probabilities are most likely, by EM.

    `r_ic ~ p_ic prior_c / start_c`, normalised over c; then
    `prior_c = (sum_i r_ic + strength - 1) / (N + K (strength - 1))`. With strength 1 this is the maximum
    likelihood of Saerens et al. (Neural Computation 14, 2002); above 1 the maximum a posteriori under a
    symmetric Dirichlet prior of that strength (MAPLS, WACV 2024), which keeps every class possible.

    Args:
        probabilities_NK: rows that sum to 1, as well calibrated as can be.
        start_K: the prior that the probabilities were made with; uniform if not given, as for text.
        strength: of the Dirichlet prior, 1 or more.
        iterations: most steps.
        tolerance: sum of absolute changes below which it stops.

    Raises:
        ValueError: no rows, a row that is no distribution, a start with a class of none, a strength below 1.
    """
    p, start = _checked(probabilities_NK, start_K)
    if strength < 1:
        raise ValueError(f"strength must be 1 or more, got {strength}")
    count, classes = p.shape
    ratio = p / start
    prior, trace, converged = start, [_posterior(ratio @ start, start, strength)], False
    for _ in range(iterations):
        evidence = np.maximum(ratio @ prior, LEAST)
        expected = prior * ((1 / evidence) @ ratio)
        following = (expected + strength - 1) / (count + classes * (strength - 1))
        following = following / following.sum()
        moved = float(np.abs(following - prior).sum())
        prior = following
        trace.append(_posterior(ratio @ prior, prior, strength))
        if moved < tolerance:
            converged = True
            break
    return Prior(prior, tuple(trace), converged)


def prior_shift(prior_K: np.ndarray, start_K: np.ndarray | None = None) -> np.ndarray:
    """Return `log(prior / start)` (K,), to be added to logits made with `start`; uniform if not given."""
    prior = np.asarray(prior_K, np.float64)
    start = np.full(len(prior), 1 / len(prior)) if start_K is None else np.asarray(start_K, np.float64)
    return np.log(np.maximum(prior, LEAST)) - np.log(start)


def effective_classes(prior_K: np.ndarray) -> float:
    """Return `exp(entropy)`: K for a uniform prior, 1 where one class is all there is."""
    prior = np.asarray(prior_K, np.float64)
    return float(np.exp(-(prior * np.log(np.maximum(prior, LEAST))).sum()))


def _posterior(evidence_N: np.ndarray, prior_K: np.ndarray, strength: float) -> float:
    """Return the log-posterior of a prior over the number of images, up to a constant."""
    total = np.log(np.maximum(evidence_N, LEAST)).sum()
    if strength > 1:
        total += (strength - 1) * np.log(np.maximum(prior_K, LEAST)).sum()
    return float(total) / len(evidence_N)


def _checked(probabilities_NK: np.ndarray, start_K: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    p = np.asarray(probabilities_NK, np.float64)
    if p.ndim != 2 or not p.size:
        raise ValueError(f"expected probabilities (N, K), got {p.shape}")
    if not (p >= 0).all() or np.abs(p.sum(axis=1) - 1).max() > 1e-3:
        raise ValueError("a row of probabilities does not sum to 1")
    classes = p.shape[1]
    start = np.full(classes, 1 / classes) if start_K is None else np.asarray(start_K, np.float64)
    if start.shape != (classes,) or not (start > 0).all() or not np.isfinite(start).all():
        raise ValueError(f"expected a positive start for each of {classes} classes, got shape {start.shape}")
    return p, start / start.sum()
