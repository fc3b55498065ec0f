"""Random numbers by position instead of by sequence: (seed, epoch, image, column) always gives the same one.

So augmentation does not depend on how many workers there are, on the order in which they finish, or on where
an epoch was resumed. The generator is SplitMix64 (Steele, Lea, Flood, OOPSLA 2014) read at a counter.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MASK = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15
FIRST, SECOND = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
COLUMNS = 64
"""How many numbers an image can have in an epoch."""
ORDER, TURN, SHOWN = 63, 62, 61
"""Columns that decide in which order an epoch shows its images, in which a class takes its own, and which
views of an object are shown."""


def uniforms(
    seed: int, epoch: int, indices: NDArray[np.int64], columns: int, first: int = 0
) -> NDArray[np.float64]:
    """Return numbers in [0, 1), (n, columns).

    Args:
        seed: of the run.
        epoch: from 0.
        indices: (n,) positions of the images.
        columns: how many numbers each image needs, at most `COLUMNS`.
        first: the column to begin with.
    """
    if not 0 <= first < first + columns <= COLUMNS:
        raise ValueError(f"columns must lie within 0 to {COLUMNS}, got {first} to {first + columns}")
    stream = _mix(_mix(seed & MASK) + epoch & MASK)
    counters = indices.astype(np.uint64)[:, None] * np.uint64(COLUMNS)
    counters = counters + np.arange(first, first + columns, dtype=np.uint64)
    state = counters * np.uint64(GOLDEN) + np.array([stream], np.uint64)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(FIRST)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(SECOND)
    state ^= state >> np.uint64(31)
    return (state >> np.uint64(11)).astype(np.float64) * np.float64(2.0**-53)


def permutation(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    """Return the positions 0 to count - 1 in a random order."""
    keys = uniforms(seed, epoch, np.arange(count), 1, first=ORDER)[:, 0]
    return np.argsort(keys, kind="stable")


def _mix(value: int) -> int:
    """Return the SplitMix64 output for one state."""
    value = (value + GOLDEN) & MASK
    value = ((value ^ (value >> 30)) * FIRST) & MASK
    value = ((value ^ (value >> 27)) * SECOND) & MASK
    return value ^ (value >> 31)
