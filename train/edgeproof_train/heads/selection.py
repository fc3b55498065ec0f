"""Choosing hyper-parameters on validation: the best of a grid, and of several that are best the simplest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Generic, NamedTuple, TypeVar

import numpy as np

Candidate = TypeVar("Candidate")
Score = float | tuple[float, ...]
TIE = 1e-9
BLOCK_SCORES = 1 << 20
"""Scores whose likelihood is computed at a time: 8 MB."""


class Choice(NamedTuple, Generic[Candidate]):
    """The best of some candidates and its score."""

    value: Candidate
    score: Score


def choose(candidates: Iterable[Candidate], score: Callable[[Candidate], Score]) -> Choice[Candidate]:
    """Return the candidate of the highest score; of equal ones the first.

    Args:
        candidates: the simplest first.
        score: higher is better; tuples are compared number by number. One with a NaN is never chosen.

    Raises:
        ValueError: there is no candidate with a score.
    """
    best: Choice[Candidate] | None = None
    highest: tuple[float, ...] = ()
    for candidate in candidates:
        found = score(candidate)
        rank = found if isinstance(found, tuple) else (found,)
        if not np.isnan(rank).any() and (best is None or rank > highest):
            best, highest = Choice(candidate, found), rank
    if best is None:
        raise ValueError("no candidate has a score")
    return best


class Factor(NamedTuple):
    """How much of something is added: the factor, the accuracy that it gives, and the mean `-log p_y`."""

    value: float
    accuracy: float
    nll: float

    @property
    def score(self) -> tuple[float, float]:
        """Accuracy first, then likelihood."""
        return self.accuracy, -self.nll


def choose_factor(
    base_NK: np.ndarray, extra_NK: np.ndarray, labels_N: np.ndarray, factors_F: Sequence[float] | np.ndarray
) -> Factor:
    """Return the factor f by which `base + f extra` is right most often; of several the likeliest one.

    Args:
        base_NK: logits.
        extra_NK: what is added to them.
        labels_N: true columns.
        factors_F: ascending, from 0; the first is the simplest.
    """
    factors = np.asarray(factors_F, np.float64)
    shares = shares_right(base_NK, extra_NK, labels_N, factors)
    return likeliest(base_NK, extra_NK, labels_N, factors[shares >= shares.max() - TIE], float(shares.max()))


def likeliest(
    base_NK: np.ndarray, extra_NK: np.ndarray, labels_N: np.ndarray, factors_F: np.ndarray, accuracy: float
) -> Factor:
    """Return which of some ascending factors, all of one accuracy, finds the labels likeliest.

    The mean of `-log p_y` is convex in the factor, so that halving the list finds its lowest point.
    """
    seen: dict[int, float] = {}

    def nll(place: int) -> float:
        if place not in seen:
            seen[place] = mean_nll(base_NK, extra_NK, labels_N, float(factors_F[place]))
        return seen[place]

    low, high = 0, len(factors_F) - 1
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if nll(middle) <= nll(middle + 1) else (middle + 1, high)
    return Factor(float(factors_F[low]), accuracy, nll(low))


def mean_nll(base_NK: np.ndarray, extra_NK: np.ndarray, labels_N: np.ndarray, factor: float) -> float:
    """Return the mean of `-log softmax(base + factor extra)_y`, in blocks."""
    total, step = 0.0, max(1, BLOCK_SCORES // base_NK.shape[1])
    for start in range(0, len(labels_N), step):
        part = slice(start, start + step)
        logits = base_NK[part] + np.asarray(factor, base_NK.dtype) * extra_NK[part]
        own = logits[np.arange(len(logits)), labels_N[part]]
        highest = logits.max(axis=1)
        logits -= highest[:, None]
        total += float((np.log(np.exp(logits).sum(axis=1)) + highest - own).sum(dtype=np.float64))
    return total / len(labels_N)


def shares_right(
    base_NK: np.ndarray, extra_NK: np.ndarray, labels_N: np.ndarray, factors_F: np.ndarray
) -> np.ndarray:
    """Return the accuracy of `base + f extra` for each of F ascending factors f from 0, (F,), in one pass."""
    return counts_right(base_NK, extra_NK, labels_N, factors_F) / len(labels_N)


def counts_right(
    base_NK: np.ndarray, extra_NK: np.ndarray, labels_N: np.ndarray, factors_F: np.ndarray
) -> np.ndarray:
    """Return how many rows `base + f extra` gets right for each of F ascending factors from 0, (F,) integers.

    The true class leads another one where `f (extra_y - extra_k) > base_k - base_y`: each class bounds f from
    one side, so a row is right between the highest lower and the lowest upper bound. A row in which another
    class is equal to the true one is not right. Classes that are ahead neither in the base nor in what is
    added never lead, and they are most: bounds are computed for the others.
    """
    rows = np.arange(len(labels_N))
    own_base, own_extra = base_NK[rows, labels_N], extra_NK[rows, labels_N]
    rivals = (extra_NK >= own_extra[:, None]) | (base_NK >= own_base[:, None])
    rivals[rows, labels_N] = False
    row, column = np.divmod(np.flatnonzero(rivals), base_NK.shape[1])
    behind, gain = base_NK[row, column] - own_base[row], own_extra[row] - extra_NK[row, column]
    low, high = np.full(len(rows), -np.inf), np.full(len(rows), np.inf)
    up, down = gain > 0, gain < 0
    with np.errstate(over="ignore"):
        np.maximum.at(low, row[up], behind[up] / gain[up])
        np.minimum.at(high, row[down], behind[down] / gain[down])
    high[row[(gain == 0) & (behind >= 0)]] = -np.inf
    first = np.searchsorted(factors_F, low, side="right")
    last = np.searchsorted(factors_F, high, side="left")
    right = first < last
    size = len(factors_F) + 1
    steps = np.bincount(first[right], minlength=size) - np.bincount(last[right], minlength=size)
    return np.cumsum(steps)[:-1]
