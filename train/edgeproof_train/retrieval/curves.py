"""How precision falls while recall grows, as the mean over queries."""

from __future__ import annotations

import numpy as np

from edgeproof_train.retrieval.figures import Definition, ranks_of
from edgeproof_train.retrieval.osmn40 import interpolated
from edgeproof_train.retrieval.standard import precisions

ELEVEN, FULL = 11, 101
"""Points of the curve of TREC, and of one at every hundredth."""


def pr_curve(
    queries: np.ndarray,
    query_labels: np.ndarray,
    gallery: np.ndarray,
    gallery_labels: np.ndarray,
    own: np.ndarray | None = None,
    definition: Definition = "standard",
    points: int = ELEVEN,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the levels of recall (P,), from 0 to 1, and the mean precision (P,) at each.

    A query's precision at a level is the largest that it has there or at a higher recall. Queries with
    nothing relevant are left out by `standard` and count 0 by `osmn40`.

    Args:
        queries: as for `retrieval_figures`, like the next four.
        query_labels: (Q,).
        gallery: (N, D).
        gallery_labels: (N,).
        own: (Q,) or None.
        definition: `standard` or `osmn40`.
        points: P, evenly spaced: 11 as in TREC, or more for a finer line.

    Raises:
        ValueError: as `retrieval_figures`, or fewer than two points.
    """
    if points < 2:
        raise ValueError(f"a curve needs at least two points, got {points}")
    total, counted = np.zeros(points), 0
    steps = np.arange(points)
    for _, ranks, totals in ranks_of(queries, query_labels, gallery, gallery_labels, own):
        counted += len(totals) if definition == "osmn40" else int((totals > 0).sum())
        some = totals > 0
        highest, have = interpolated(precisions(ranks[some])), totals[some]
        # At level s / (P - 1) counts the first rank with j / G no smaller: in whole numbers, as 3 / 10 is
        # not three times a tenth.
        first = np.maximum(-(-steps * have[:, None] // (points - 1)), 1)
        total += np.take_along_axis(highest, first - 1, axis=1).sum(axis=0)
    return steps / (points - 1), total / counted
