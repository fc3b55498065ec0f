"""Measures of a ranking as the literature defines them, for each query.

Everything is told by the ranks of a query's relevant items: `r_1 < r_2 < ... < r_G` of its G, from 1.
"""

from __future__ import annotations

import numpy as np

RECALL_AT = (1, 5, 10)


def measures(ranks_BG: np.ndarray, totals_B: np.ndarray, widest: int, k: int) -> dict[str, np.ndarray]:
    """Return the measures of B queries, float64 (B,) each; NaN where a query has nothing relevant.

    - `map`: average precision, the mean of `j / r_j` (not interpolated; as scikit-learn's where no two
      scores are equal).
    - `ndcg`: `sum of 1 / log2(r_j + 1)` over `r_j <= k`, divided by the same of the ranks 1 to min(G, k).
    - `anmrr`: NMRR of MPEG-7 (Manjunath et al., IEEE TCSVT 11, 2001), 0 is perfect: with
      `K = min(4 G, 2 max G)` a rank above K counts 1.25 K, AVR is the mean of the ranks, and
      `NMRR = (AVR - (1 + G) / 2) / (1.25 K - (1 + G) / 2)`.
    - `nn`: whether the first is relevant. `first_tier`, `second_tier`: the share of the relevant that is
      among the first G, and 2 G (Shilane et al., SMI 2004).
    - `recall@k`: whether one of the first k is relevant.

    Args:
        ranks_BG: int64, ranks from 1 in rising order, 0 behind the last of a query.
        totals_B: G of each query.
        widest: the largest G of all queries, those of other blocks included.
        k: how far NDCG looks.
    """
    valid, total = ranks_BG > 0, np.maximum(totals_B, 1)
    found = {
        "map": average_precision(precisions(ranks_BG), totals_B),
        "ndcg": gains(ranks_BG, k) / ideal_gains(k)[np.minimum(total, k) - 1],
        "anmrr": _nmrr(ranks_BG, valid, total, widest),
        "nn": _within(ranks_BG, valid, 1) > 0,
        "first_tier": _within(ranks_BG, valid, total[:, None]) / total,
        "second_tier": _within(ranks_BG, valid, 2 * total[:, None]) / total,
    }
    found |= {f"recall@{at}": _within(ranks_BG, valid, at) > 0 for at in RECALL_AT}
    return {name: np.where(totals_B > 0, values, np.nan) for name, values in found.items()}


def precisions(ranks_BG: np.ndarray) -> np.ndarray:
    """Return the precision `j / r_j` at each relevant item, 0 behind the last."""
    place = np.arange(1, ranks_BG.shape[1] + 1)
    return np.divide(place, ranks_BG, out=np.zeros(ranks_BG.shape), where=ranks_BG > 0)


def average_precision(precisions_BG: np.ndarray, totals_B: np.ndarray) -> np.ndarray:
    """Return the mean precision of each query; 0 where it has nothing relevant."""
    return precisions_BG.sum(axis=1) / np.maximum(totals_B, 1)


def gains(ranks_BG: np.ndarray, k: int) -> np.ndarray:
    """Return the discounted cumulated gain of the first k."""
    counted = (ranks_BG > 0) & (ranks_BG <= k)
    return np.where(counted, 1 / np.log2(np.where(counted, ranks_BG, 1) + 1), 0).sum(axis=1)


def ideal_gains(k: int) -> np.ndarray:
    """Return (k,): the gain of one, two, ... k relevant items that stand first."""
    return np.cumsum(1 / np.log2(np.arange(2, k + 2)))


def _within(ranks_BG: np.ndarray, valid_BG: np.ndarray, at: int | np.ndarray) -> np.ndarray:
    return (valid_BG & (ranks_BG <= at)).sum(axis=1)


def _nmrr(ranks_BG: np.ndarray, valid_BG: np.ndarray, totals_B: np.ndarray, widest: int) -> np.ndarray:
    reach = np.minimum(4 * totals_B, 2 * widest)
    late = ranks_BG > reach[:, None]
    counted = np.where(late, 1.25 * reach[:, None], ranks_BG)
    average = np.where(valid_BG, counted, 0).sum(axis=1) / totals_B
    perfect = (1 + totals_B) / 2
    return (average - perfect) / np.maximum(1.25 * reach - perfect, np.finfo(float).tiny)
