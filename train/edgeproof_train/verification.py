"""Verification: are two images of the same class? All pairs, exact, in bounded memory.

For a false-accept rate F, pairs are accepted whose cosine is above the lowest threshold at which at most a
share F of the impostor pairs (two classes) is; the verification rate is the share of the genuine pairs (one
class) that is accepted. 37,649 images make 7.09e8 pairs, too many to keep. Scores are float32; the pairs are
met in blocks twice. The first time all scores are counted by the upper 16 of their bits in the order of
their values, which tells in which of 65,536 intervals each threshold lies. The second time the scores of
these intervals are counted by their lower 16 bits, which tells it to the last bit.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from edgeproof_configs.progress import progress
from edgeproof_train.metrics import unit_rows

FALSE_ACCEPT_RATES = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8)
BLOCK = 2048
HALF = 1 << 16
SIGN = np.uint32(1 << 31)


@dataclass(frozen=True)
class Verification:
    """What was found for one set of labels.

    Attributes:
        genuine: number of pairs of one class.
        impostor: number of pairs of two classes.
        rates: verification rate at each false-accept rate; None where that is not resolvable, because it
            allows less than one impostor pair.
        thresholds: a pair is accepted where its cosine is above this; minus infinity accepts all.
    """

    genuine: int
    impostor: int
    rates: dict[float, float | None]
    thresholds: dict[float, float | None]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, with `unresolvable` for what is."""
        rates = {f"{far:g}": "unresolvable" if rate is None else rate for far, rate in self.rates.items()}
        return {"genuine_pairs": self.genuine, "impostor_pairs": self.impostor, "rates": rates}


def verification_rates(
    embeddings_ND: np.ndarray,
    labels: Mapping[str, np.ndarray],
    *,
    false_accept_rates: Sequence[float] = FALSE_ACCEPT_RATES,
    block: int = BLOCK,
) -> dict[str, Verification]:
    """Return the verification rates over all distinct pairs, for each of several sets of labels.

    Args:
        embeddings_ND: of any length; they are made unit vectors.
        labels: by name, such as `coarse` and `fine`, an int array (N,) each. Images with a negative label
            are left out there.
        false_accept_rates: above 0, at most 1.
        block: images that are compared with as many others at once. Scores are sums of float32 products,
            whose last bit may depend on it.

    Raises:
        ValueError: an embedding is not finite, shapes do not fit, or no two images are of one class.
    """
    if not np.isfinite(embeddings_ND).all():
        raise ValueError("some embeddings are not finite")
    if any(not 0 < far <= 1 for far in false_accept_rates):
        raise ValueError(f"false-accept rates lie between 0 and 1, got {tuple(false_accept_rates)}")
    rows = unit_rows(embeddings_ND).astype(np.float32)
    found = {}
    for name, given in labels.items():
        if np.shape(given) != (len(rows),):
            raise ValueError(f"{name}: expected labels ({len(rows)},), got {np.shape(given)}")
        known = np.asarray(given) >= 0
        pairs = Pairs(rows[known], np.asarray(given)[known], block, name)
        found[name] = _verification(pairs, false_accept_rates)
    return found


@dataclass(frozen=True)
class Pairs:
    """All distinct pairs of unit rows (N, D), float32, with labels (N,)."""

    rows: np.ndarray
    labels: np.ndarray
    block: int
    name: str

    def keys(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield the scores of some pairs as integers of the same order, and whether each is genuine."""
        starts = range(0, len(self.rows), self.block)
        with progress(f"verification, {self.name}", len(starts) * (len(starts) + 1) // 2, "blocks") as shown:
            for first in starts:
                for second in range(first, len(self.rows), self.block):
                    left, right = slice(first, first + self.block), slice(second, second + self.block)
                    keys = ordered(self.rows[left] @ self.rows[right].T)
                    same = self.labels[left][:, None] == self.labels[right][None, :]
                    if first == second:
                        above = np.triu_indices(len(keys), 1)
                        yield keys[above], same[above]
                    else:
                        yield keys.ravel(), same.ravel()
                    shown.advance()

    def count_upper(self) -> np.ndarray:
        """Return how many impostor (0) and genuine (1) scores have each upper half, (2, 65536)."""
        counts = np.zeros(2 * HALF, np.int64)
        for keys, same in self.keys():
            counts += np.bincount((keys >> 16) + HALF * same, minlength=2 * HALF)
        return counts.reshape(2, HALF)

    def count_lower(self, intervals: Sequence[int]) -> np.ndarray:
        """Return counts by the lower half for each of some values of the upper one, (n, 2, 65536)."""
        slots = np.full(HALF, -1, np.int64)
        slots[list(intervals)] = np.arange(len(intervals))
        counts = np.zeros(len(intervals) * 2 * HALF, np.int64)
        for keys, same in self.keys():
            slot = slots[keys >> 16]
            chosen = slot >= 0
            place = (2 * slot[chosen] + same[chosen]) * HALF + (keys[chosen] & (HALF - 1))
            counts += np.bincount(place, minlength=len(counts))
        return counts.reshape(len(intervals), 2, HALF)


def ordered(scores: np.ndarray) -> np.ndarray:
    """Return int64 keys from 0 to 2^32 - 1 that lie in the order of float32 scores."""
    # Adding 0 turns -0.0 into 0.0, which compares equal to it but has other bits.
    bits = (scores + np.float32(0)).view(np.uint32)
    return np.where(bits & SIGN, ~bits, bits | SIGN).astype(np.int64)


def score_of(key: int) -> float:
    """Return the float32 score of a key."""
    bits = np.uint32(key)
    restored = bits ^ SIGN if bits & SIGN else ~bits
    return float(np.array(restored, np.uint32).view(np.float32))


def _verification(pairs: Pairs, rates: Sequence[float]) -> Verification:
    upper = pairs.count_upper()
    impostor, genuine = (int(count) for count in upper.sum(axis=1))
    if not genuine:
        raise ValueError(f"{pairs.name}: no two images are of one class")
    # So many impostors may be accepted; the threshold is the score of the one that comes next.
    allowed = {rate: int(Fraction(repr(float(rate))) * impostor) for rate in rates}
    bounded = {rate: count for rate, count in allowed.items() if 1 <= count < impostor}
    interval = {rate: _reaches(upper[0], count) for rate, count in bounded.items()}
    wanted = sorted(set(interval.values()))
    lower = dict(zip(wanted, pairs.count_lower(wanted), strict=True)) if wanted else {}
    found: dict[float, float | None] = {}
    thresholds: dict[float, float | None] = {}
    for rate, count in allowed.items():
        if rate not in bounded:
            found[rate], thresholds[rate] = (1.0, -math.inf) if count else (None, None)
            continue
        high = interval[rate]
        if not np.array_equal(lower[high].sum(axis=1), upper[:, high]):
            raise ValueError(f"{pairs.name}: the scores of two passes over the same pairs differ")
        above = upper[:, high + 1 :].sum(axis=1)
        low = _reaches(lower[high][0], count - int(above[0]))
        accepted = int(above[1] + lower[high][1, low + 1 :].sum())
        found[rate], thresholds[rate] = accepted / genuine, score_of((high << 16) | low)
    return Verification(genuine, impostor, found, thresholds)


def _reaches(counts: np.ndarray, allowed: int) -> int:
    """Return the place, from the highest down, where more than `allowed` have been counted."""
    return len(counts) - 1 - int(np.searchsorted(np.cumsum(counts[::-1]), allowed, side="right"))
