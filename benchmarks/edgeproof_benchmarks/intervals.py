"""Intervals that ask nothing of a distribution: of a median by the sign test, of a tail by MLPerf's rule.

MLPerf inference ends a latency run early by this argument (its rules, "Early stopping"): of n queries let
t be over a bound. If more than 1 - q of all queries were over it, so few of n would be seen over it with at
most `DOUBT` probability: then the bound holds for the percentile q. The fewest queries with which it can say
anything, t = 1, are 64 for p90 and 662 for p99.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from math import comb, exp, lgamma, log

CHANCE = 0.025
"""How often one end of the interval of a median may lie on the wrong side of it."""
DOUBT = 0.01
"""One less the confidence of a bound of a percentile: MLPerf's c = 0.99."""


@dataclass(frozen=True)
class MedianInterval:
    """Between which two of the sorted values the true median lies, and how surely."""

    low: float
    high: float
    confidence: float


def place_of_lower_end(count: int) -> int:
    """Return the place, from 0, of the lower end of the interval among `count` sorted values.

    The k-th lowest of n values lies above the median with the probability that fewer than k of n fair coins
    show heads. k is the largest for which that is at most `CHANCE`, and 1 where none is: the lowest of up to
    8 values (3.1 % of 5, 0.8 % of 7), the second lowest of 9 (2.0 %).
    """
    below = accumulate(comb(count, heads) / 2**count for heads in range(count))
    return max(0, sum(chance <= CHANCE for chance in below) - 1)


def median_interval(values: Sequence[float]) -> MedianInterval:
    """Return the interval of the sign test for the median of which `values` are independent draws.

    The confidence is at least 95 % from 6 values on; below, it is that of lowest to highest.

    Raises:
        ValueError: there is no value.
    """
    if not values:
        raise ValueError("an interval needs at least one value")
    each, place = sorted(values), place_of_lower_end(len(values))
    missed = 2 * sum(comb(len(each), heads) for heads in range(place + 1)) / 2 ** len(each)
    return MedianInterval(each[place], each[-1 - place], max(0.0, 1 - missed))


def at_most(over: int, count: int, share: float) -> float:
    """Return the probability of at most `over` of `count` draws, each with the probability `share`."""
    logs = (
        lgamma(count + 1)
        - lgamma(k + 1)
        - lgamma(count - k + 1)
        + k * log(share)
        + (count - k) * log(1 - share)
        for k in range(over + 1)
    )
    return min(1.0, sum(exp(one) for one in logs))


@lru_cache(maxsize=1024)
def allowed_over(count: int, q: float) -> int:
    """Return the largest t so that t of `count` over a bound still prove it for the percentile q; else 0."""
    low, high = 0, count
    while low < high:
        middle = (low + high + 1) // 2
        if at_most(middle, count, 1 - q) <= DOUBT:
            low = middle
        else:
            high = middle - 1
    return low


@lru_cache(maxsize=64)
def fewest_for(q: float) -> int:
    """Return how many samples a percentile needs before a bound can be given for it: 64 for p90."""
    count = 2
    while at_most(1, count, 1 - q) > DOUBT:
        count += 1
    return count
