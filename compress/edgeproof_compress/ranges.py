"""From the histogram of a value's magnitudes to the range that is kept.

The backends collect the histograms. What they make of them is not used: modelopt 0.47 calls its own rounding
with the arguments in another order for `mse` and gives the smallest range that it tries, and both take many
seconds a value for `entropy`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

LEVELS = 128
"""Magnitudes that int8 has, 0 included."""

Counts = NDArray[np.float64]


def entropy_range(counts: Counts, edges: Counts) -> float:
    """Return the range whose rounded distribution is nearest to the one seen, by KL divergence.

    The method of TensorRT's calibrator (Migacz, "8-bit Inference with TensorRT", GTC 2017): what lies beyond
    a range is added to its last bin, what lies inside is gathered into 128 levels and spread evenly over
    their bins that are not empty. Of equal ranges the largest is taken.

    Args:
        counts: (N,) of the magnitudes in each bin.
        edges: (N + 1,) of the bins, from 0.
    """
    counts = counts.copy()
    # Zeros are exact at every range, and would hide everything else.
    counts[0] = counts[1] if len(counts) > 1 else counts[0]
    tried = range(min(LEVELS, len(counts)), len(counts) + 1)
    found = np.round(divergences(counts, tried), 12)
    best = len(found) - 1 - int(np.argmin(found[::-1]))
    return float(edges[tried[best]])


def divergences(counts: Counts, sizes: Sequence[int]) -> Counts:
    """Return KL(seen || rounded) for each number of bins that is kept.

    All bins of a level have the same height after rounding, so sums up to each bin are enough.
    """
    up_to = np.append(0, np.cumsum(counts))
    filled = np.append(0, np.cumsum(counts > 0))
    heights = np.append(0, np.cumsum(times_log(counts)))
    total = counts.sum()
    found = np.full(len(sizes), np.inf)
    for place, size in enumerate(sizes):
        last, beyond = counts[size - 1], total - up_to[size]
        if not last and beyond > 0:
            continue
        starts = -(-np.arange(LEVELS + 1) * size // LEVELS)
        gathered, members = np.diff(up_to[starts]), np.diff(filled[starts])
        some = members > 0
        height = np.log(gathered[some] / members[some] / up_to[size])
        gathered[(size - 1) * LEVELS // size] += beyond
        seen = heights[size] - times_log(last) + times_log(last + beyond) - times_log(total)
        found[place] = (seen - (gathered[some] * height).sum()) / total
    return found


def times_log(counts: Counts) -> Counts:
    """Return x log x, 0 at 0."""
    return counts * np.log(np.maximum(counts, np.finfo(np.float64).tiny))


def mse_range(counts: Counts, edges: Counts) -> float:
    """Return the range with the least mean squared rounding error over the magnitudes seen.

    Args:
        counts: (N,) of the magnitudes in each bin.
        edges: (N + 1,) of the bins, from 0.
    """
    centres = (edges[1:] + edges[:-1]) / 2
    tried = edges[min(LEVELS, len(counts)) :]

    def error(amax: float) -> float:
        step = amax / (LEVELS - 1)
        rounded = np.minimum(np.round(centres / step), LEVELS - 1) * step
        return float(((rounded - centres) ** 2 * counts).sum())

    return float(tried[int(np.argmin([error(amax) for amax in tried]))])


def percentile_range(counts: Counts, edges: Counts, percentile: float) -> float:
    """Return the range within which that part of the magnitudes lies, 50 to 100."""
    share = np.cumsum(counts) / counts.sum()
    return float(edges[min(int(np.searchsorted(share, percentile / 100)) + 1, len(counts))])


METHODS: dict[str, Callable[[Counts, Counts], float]] = {"entropy": entropy_range, "mse": mse_range}
