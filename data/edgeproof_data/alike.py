"""Images that mean the same: pairs of unit vectors whose cosine reaches a threshold, none missed.

All pairs are compared in blocks, but on a sketch: the coordinates in a few leading directions and the length
of the rest. By Cauchy and Schwarz the product of two sketches is never below the cosine, so only pairs whose
sketches reach the threshold are looked at in full, and no other one can be alike.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgeproof_configs.progress import progress
from edgeproof_data.near import linked_groups

LEAST_COSINE = 0.95
"""At which two images count as the same in content, as in SemDeDup (arXiv 2303.09540)."""
SKETCH_DIRECTIONS = 64
SAMPLED_ROWS = 16_384
ROWS_AT_ONCE, COLUMNS_AT_ONCE = 2_048, 16_384
READ_AT_ONCE = 65_536
SLACK = 1e-4
"""What rounding to float32 may take from a product of sketches, with room to spare."""
MOST_LINKS = 4_000_000
"""So many links are kept before they are replaced by as few as hold the same groups together."""

Indices = NDArray[np.int64]
Links = tuple[Indices, Indices, NDArray[np.float64]]
"""Both ends of some pairs (n,), and their cosines."""


class Vectors(Protocol):
    """Rows (N, D) that are read when they are needed: an embedding cache, or an array in `Rows`."""

    def __len__(self) -> int: ...

    def rows(self, indices: ArrayLike, /) -> NDArray[np.float32]:
        """Return the rows at some positions, (n, D) float32."""
        ...


class Rows:
    """An array (N, D) as `Vectors`."""

    def __init__(self, matrix: NDArray[np.floating]):
        self.matrix = matrix

    def __len__(self) -> int:
        return len(self.matrix)

    def rows(self, indices: ArrayLike, /) -> NDArray[np.float32]:
        """Return the rows at some positions."""
        return self.matrix[np.asarray(indices, np.int64)].astype(np.float32)


def alike_pairs(vectors: Vectors, least_cosine: float = LEAST_COSINE) -> Iterator[Links]:
    """Yield all pairs i < j of rows with at least this cosine, in blocks.

    Args:
        vectors: rows (N, D) of any length but zero.
        least_cosine: in (0, 1].

    Raises:
        ValueError: the threshold is not in (0, 1].
    """
    if not 0 < least_cosine <= 1:
        raise ValueError(f"expected a cosine in (0, 1], got {least_cosine}")
    sketch = _sketches(vectors, _directions(vectors)) if len(vectors) > 1 else np.zeros((0, 1), np.float32)
    # New memory for each block would cost more time than the products that are put into it.
    space = (
        np.empty(ROWS_AT_ONCE * COLUMNS_AT_ONCE, np.float32),
        np.empty(ROWS_AT_ONCE * COLUMNS_AT_ONCE, bool),
    )
    with progress("compare", len(sketch), "rows") as shown:
        for top in range(0, len(sketch), ROWS_AT_ONCE):
            some = sketch[top : top + ROWS_AT_ONCE]
            for left in range(top, len(sketch), COLUMNS_AT_ONCE):
                others = sketch[left : left + COLUMNS_AT_ONCE]
                shape, size = (len(some), len(others)), len(some) * len(others)
                products, high = (buffer[:size].reshape(shape) for buffer in space)
                np.matmul(some, others.T, out=products)
                np.greater_equal(products, least_cosine - SLACK, out=high)
                row, column = np.divmod(np.flatnonzero(high), len(others))
                first, second = row + top, column + left
                later = second > first
                if later.any():
                    yield _verified(vectors, first[later], second[later], least_cosine)
            shown.advance(len(some))


def alike_groups(vectors: Vectors, least_cosine: float = LEAST_COSINE) -> list[list[int]]:
    """Return groups of rows that are linked by pairs of at least this cosine, largest group first.

    Groups are what a union-find over the pairs leaves: two rows of a group may be less alike than the
    threshold where others lie between them.
    """
    first = second = np.zeros(0, np.int64)
    for more_first, more_second, _ in alike_pairs(vectors, least_cosine):
        first, second = np.concatenate([first, more_first]), np.concatenate([second, more_second])
        if len(first) > MOST_LINKS:
            chains = linked_groups(first, second, len(vectors))
            first = np.concatenate([np.full(len(chain) - 1, chain[0], np.int64) for chain in chains])
            second = np.concatenate([np.array(chain[1:], np.int64) for chain in chains])
    return linked_groups(first, second, len(vectors))


def firsts_only(vectors: Vectors, least_cosine: float = LEAST_COSINE) -> NDArray[np.bool_]:
    """Return which rows stay (N,) if each row that is alike to an earlier one that stays is left out."""
    earlier: dict[int, list[int]] = {}
    for first, second, _ in alike_pairs(vectors, least_cosine):
        for one, other in zip(first.tolist(), second.tolist(), strict=True):
            earlier.setdefault(other, []).append(one)
    stays = np.ones(len(vectors), bool)
    for row in sorted(earlier):
        stays[row] = not stays[earlier[row]].any()
    return stays


def _verified(vectors: Vectors, first: Indices, second: Indices, least: float) -> Links:
    """Return the pairs whose cosine, in float64, reaches the threshold."""
    cosines = np.empty(len(first))
    for start in range(0, len(first), READ_AT_ONCE):
        some = slice(start, start + READ_AT_ONCE)
        one, other = (vectors.rows(ends[some]).astype(np.float64) for ends in (first, second))
        lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
        cosines[some] = (one * other).sum(axis=1) / lengths
    enough = np.round(cosines, 9) >= least
    return first[enough], second[enough], cosines[enough]


def _directions(vectors: Vectors) -> NDArray[np.float32]:
    """Return the leading directions (D, S) of the rows, from evenly spaced ones."""
    chosen = np.unique(np.linspace(0, len(vectors) - 1, min(len(vectors), SAMPLED_ROWS)).round())
    sample = _units(vectors.rows(chosen.astype(np.int64))).astype(np.float64)
    _, axes = np.linalg.eigh(sample.T @ sample)
    return np.ascontiguousarray(axes[:, ::-1][:, :SKETCH_DIRECTIONS], np.float32)


def _sketches(vectors: Vectors, axes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the coordinates of each row in some directions, and the length of what they leave out."""
    sketch = np.empty((len(vectors), axes.shape[1] + 1), np.float32)
    for start in range(0, len(vectors), READ_AT_ONCE):
        places = np.arange(start, min(start + READ_AT_ONCE, len(vectors)))
        sketch[places, :-1] = _units(vectors.rows(places)) @ axes
    rest = 1.0 - np.square(sketch[:, :-1], dtype=np.float64).sum(axis=1)
    sketch[:, -1] = np.sqrt(np.maximum(rest, 0.0))
    return sketch


def _units(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)
