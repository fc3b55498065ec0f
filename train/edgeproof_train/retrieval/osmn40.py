"""Measures of a ranking as the evaluator of OS-MN40 counts them (SHREC'22, open-set 3-D retrieval).

The tables published for OS-MN40, OS-ESB, OS-NTU and OS-ABO are in these. They share their names with the
standard ones and not their values.
"""

from __future__ import annotations

import numpy as np

from edgeproof_train.retrieval import standard


def measures(
    ranks_BG: np.ndarray, totals_B: np.ndarray, widest: int, k: int, targets: int
) -> dict[str, np.ndarray]:
    """Return the measures of B queries, float64 (B,) each.

    - `map`: mean of the interpolated precision at the relevant ranks (the largest at that rank or later); 0
      where a query has nothing relevant.
    - `ndcg`: the gain of the first k over that of k relevant items, however many there are: a query with few
      stays far below 1. Left out where fewer than k items are searched, on which the evaluator fails.
    - `anmrr`: of the first G ranks alone: each adds its rank where it is relevant and K + 1 elsewhere, with
      `K = min(4 G, 2 max G)`; ARR is the sum divided by G, and
      `NMRR = (ARR - G / 2 - 1 / 2) / (K - G / 2 + 1 / 2)`. NaN where a query has nothing relevant: the
      evaluator's -1 would be better than perfect.
    - the others as in `standard`, 0 where a query has nothing relevant.

    Args:
        ranks_BG: int64, ranks from 1 in rising order, 0 behind the last of a query.
        totals_B: G of each query.
        widest: the largest G of all queries.
        k: how far NDCG looks; the evaluator's is 100.
        targets: how many items each query searches.
    """
    some = totals_B > 0
    found = standard.measures(ranks_BG, totals_B, widest, k)
    found = {name: np.where(some, values, 0) for name, values in found.items()}
    precision = interpolated(standard.precisions(ranks_BG))
    found["map"] = standard.average_precision(precision, totals_B)
    found["anmrr"] = np.where(some, _nmrr(ranks_BG, np.maximum(totals_B, 1), widest), np.nan)
    del found["ndcg"]
    if targets >= k:
        found["ndcg"] = standard.gains(ranks_BG, k) / standard.ideal_gains(k)[-1]
    return found


def interpolated(precisions_BG: np.ndarray) -> np.ndarray:
    """Return the largest precision at each relevant rank or a later one, 0 behind the last."""
    highest = np.maximum.accumulate(precisions_BG[:, ::-1], axis=1)[:, ::-1]
    return np.where(precisions_BG > 0, highest, 0)


def _nmrr(ranks_BG: np.ndarray, totals_B: np.ndarray, widest: int) -> np.ndarray:
    reach = np.minimum(4 * totals_B, 2 * widest)
    early = (ranks_BG > 0) & (ranks_BG <= totals_B[:, None])
    missing = totals_B - early.sum(axis=1)
    average = (np.where(early, ranks_BG, 0).sum(axis=1) + missing * (reach + 1)) / totals_B
    return (average - totals_B / 2 - 0.5) / (reach - totals_B / 2 + 0.5)
