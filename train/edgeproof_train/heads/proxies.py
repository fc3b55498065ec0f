"""Class proxies in the space of images: the matrix whose softmax explains given soft labels of the images."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize

BLOCK_CELLS = 2_000_000
"""Most scores (rows times classes) that are held at once."""
CORRECTIONS = 10
"""How many earlier steps L-BFGS remembers."""


class Proxies(NamedTuple):
    """What a solver found.

    Attributes:
        weight: (K, D) float32, unit rows.
        steps: how many passes over the images it made.
        slope: norm of the objective's gradient along the unit spheres, per image.
    """

    weight: np.ndarray
    steps: int
    slope: float


class ProxyProblem:
    """`F(W) = mean_i log sum_c exp(x_i w_c / t) - <B, W> / (n t)` over unit rows w_c; B = P' X, P labels.

    Scores are computed in blocks of rows, so that memory does not grow with the number of images.

    Args:
        features_ND: unit rows.
        targets_KD: B, the sum of the features weighted by the soft labels.
        temperature: t.
    """

    def __init__(self, features_ND: np.ndarray, targets_KD: np.ndarray, temperature: float):
        self.features = np.ascontiguousarray(features_ND, np.float32)
        self.targets = np.asarray(targets_KD, np.float32)
        self.temperature = temperature
        self.count = len(self.features)

    def gradient(self, weight_KD: np.ndarray) -> tuple[float, np.ndarray]:
        """Return F and `(softmax(X W' / t)' X - B) / n` (K, D) float32, its gradient times t."""
        sharp = np.ascontiguousarray(weight_KD.T / np.float32(self.temperature))
        sums, logs = np.zeros_like(self.targets), 0.0
        for rows in row_blocks(self.count, len(weight_KD)):
            part = self.features[rows]
            scores = part @ sharp
            highest = scores.max(axis=1, keepdims=True)
            scores -= highest
            np.exp(scores, out=scores)
            total = scores.sum(axis=1, keepdims=True)
            logs += float((np.log(total) + highest).sum(dtype=np.float64))
            sums += scores.T @ (part / total)
        value = logs - float(np.vdot(self.targets, weight_KD)) / self.temperature
        return value / self.count, (sums - self.targets) / np.float32(self.count)


def row_blocks(count: int, classes: int) -> Iterator[slice]:
    """Yield slices that cover `count` rows, each with about `BLOCK_CELLS` scores at most."""
    size = max(64, BLOCK_CELLS // max(1, classes))
    for start in range(0, count, size):
        yield slice(start, min(count, start + size))


def descend(
    problem: ProxyProblem, start_KD: np.ndarray, *, steps: int = 2000, learning_rate: float = 10.0
) -> Proxies:
    """Return the proxies after plain steps, as InMaP takes them (arXiv 2310.19752).

    `W -= learning_rate / t * gradient`, rows to unit length; the rate is halved wherever the norm of the
    gradient has grown.
    """
    weight, rate, before = unit(start_KD), learning_rate, np.inf
    gradient = np.zeros_like(weight)
    for _ in range(steps):
        _, gradient = problem.gradient(weight)
        norm = float(np.linalg.norm(gradient))
        if norm > before:
            rate /= 2
        before = norm
        weight = unit(weight - np.float32(rate / problem.temperature) * gradient)
    return Proxies(weight, steps, slope_on_spheres(weight, gradient))


def accelerate(
    problem: ProxyProblem, start_KD: np.ndarray, *, steps: int = 120, tolerance: float = 5e-6
) -> Proxies:
    """Return the proxies by L-BFGS on rows of any length, which needs far fewer passes than plain steps.

    Args:
        problem: to solve.
        start_KD: where to start.
        steps: passes over the images after which the step in hand is the last.
        tolerance: largest entry of the gradient at which it stops.
    """
    shape = start_KD.shape

    def value_and_slope(flat: np.ndarray) -> tuple[float, np.ndarray]:
        rows = flat.reshape(shape)
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        weight = (rows / lengths).astype(np.float32)
        value, gradient = problem.gradient(weight)
        along = (weight * gradient).sum(axis=1, keepdims=True)
        return problem.temperature * value, ((gradient - along * weight) / lengths).ravel()

    options = {"maxfun": steps, "maxiter": steps, "maxcor": CORRECTIONS, "gtol": tolerance, "ftol": 0.0}
    start = unit(start_KD).astype(np.float64).ravel()
    found = minimize(value_and_slope, start, jac=True, method="L-BFGS-B", options=options)
    weight = unit(found.x.reshape(shape))
    return Proxies(weight, int(found.nfev), slope_on_spheres(weight, problem.gradient(weight)[1]))


def slope_on_spheres(weight_KD: np.ndarray, gradient_KD: np.ndarray) -> float:
    """Return the norm of what is left of a gradient after each row's share along its own weight."""
    along = (weight_KD * gradient_KD).sum(axis=1, keepdims=True)
    return float(np.linalg.norm(gradient_KD - along * weight_KD))


def unit(rows_KD: np.ndarray) -> np.ndarray:
    """Return rows of unit length, float32; a row of zeros stays."""
    rows = np.asarray(rows_KD, np.float32)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.finfo(np.float32).tiny)
