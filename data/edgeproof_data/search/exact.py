"""Exact search: every row against every query, in blocks; the order of the rows makes no difference.

Cosines are computed in float64 and rounded to nine decimals, so that where in a block a row stands does not
show; equal ones are ordered by the names of the images.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeproof_configs.progress import progress
from edgeproof_data.alike import Vectors

BLOCK_ROWS = 8_192
BLOCK_SCORES = 1 << 24
"""So many cosines are held at once, 128 MB, however many queries there are."""
DECIMALS = 9
SPARE = 4
"""A pool is cut back when it has so many times the rows that are wanted."""


@dataclass(frozen=True)
class Matches:
    """Images with the query that fits each best, in no order that matters.

    Attributes:
        rows: (M,) int64, positions in the collection.
        queries: (M,) int64, the query of each.
        scores: (M,) cosine with it.
        margins: (M,) by how much that is more than with the next query; NaN where there is only one query.
    """

    rows: NDArray[np.int64]
    queries: NDArray[np.int64]
    scores: NDArray[np.float64]
    margins: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, chosen: NDArray[np.int64] | NDArray[np.bool_]) -> Matches:
        """Return some of them."""
        return Matches(self.rows[chosen], self.queries[chosen], self.scores[chosen], self.margins[chosen])

    @classmethod
    def joined(cls, parts: list[Matches]) -> Matches:
        """Return the matches of several parts as one."""
        if not parts:
            nothing = np.zeros(0, np.int64)
            return cls(nothing, nothing, np.zeros(0), np.zeros(0))
        names = ("rows", "queries", "scores", "margins")
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


@dataclass(frozen=True)
class Floor:
    """What a match must reach: a cosine of `score`, and `margin` more than with any other query."""

    score: float = -1.0
    margin: float = 0.0

    def passed(self, found: Matches) -> NDArray[np.bool_]:
        """Return which matches reach it (M,)."""
        return (found.scores >= self.score) & ~(found.margins < self.margin)


def best_matches(
    vectors: Vectors,
    queries_QD: NDArray[np.float32],
    most: int,
    floor: Floor | None = None,
    among: NDArray[np.int64] | None = None,
) -> Matches:
    """Return for each query the images that fit it best and fit no other query better.

    Args:
        vectors: the collection, unit rows (N, D).
        queries_QD: unit rows.
        most: how many for each query; more where the last ones are equal.
        floor: what a match must reach.
        among: look only at these rows.

    Raises:
        ValueError: the widths differ.
    """
    queries = np.asarray(queries_QD, np.float64)
    queries = queries / np.linalg.norm(queries, axis=1, keepdims=True)
    rows = np.arange(len(vectors)) if among is None else np.asarray(among, np.int64)
    parts: list[Matches] = []
    held = 0
    with progress("search", len(rows), "images") as shown:
        size = min(BLOCK_ROWS, max(1, BLOCK_SCORES // len(queries)))
        for start in range(0, len(rows), size):
            block = rows[start : start + size]
            found = nearest_query(vectors.rows(block), block, queries)
            parts.append(found.take((floor or Floor()).passed(found)))
            held += len(parts[-1])
            if held > SPARE * most * len(queries):
                parts = [_best(Matches.joined(parts), most)]
                held = len(parts[0])
            shown.advance(len(block))
    return _best(Matches.joined(parts), most)


def nearest_query(
    block_BD: NDArray[np.float32], rows: NDArray[np.int64], queries_QD: NDArray[np.float64]
) -> Matches:
    """Return the best query of each row of a block; of equal ones the first."""
    if block_BD.shape[1] != queries_QD.shape[1]:
        raise ValueError(f"rows of {block_BD.shape[1]} values, queries of {queries_QD.shape[1]}")
    wide = block_BD.astype(np.float64)
    wide /= np.linalg.norm(wide, axis=1, keepdims=True)
    scores = np.round(wide @ queries_QD.T, DECIMALS)
    best = scores.argmax(axis=1)
    highest = np.take_along_axis(scores, best[:, None], axis=1)[:, 0]
    if scores.shape[1] == 1:
        return Matches(rows, best, highest, np.full(len(rows), np.nan))
    np.put_along_axis(scores, best[:, None], -np.inf, axis=1)
    return Matches(rows, best, highest, np.round(highest - scores.max(axis=1), DECIMALS))


def _best(found: Matches, most: int) -> Matches:
    """Return the best `most` matches of each query, and what equals the last of them."""
    order = np.lexsort((-found.scores, found.queries))
    queries, scores = found.queries[order], found.scores[order]
    starts = np.searchsorted(queries, queries, side="left")
    place = np.arange(len(order)) - starts
    last = np.minimum(starts + most - 1, len(order) - 1)
    same_query = queries[last] == queries if len(order) else np.zeros(0, bool)
    keep = (place < most) | (same_query & (scores == scores[last]))
    return found.take(order[keep])
