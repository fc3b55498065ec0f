"""The figures of a search with labelled queries in a labelled gallery."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np

from edgeproof_train.retrieval import osmn40, standard
from edgeproof_train.retrieval.search import directions, ranked_blocks

Definition = Literal["standard", "osmn40"]
DEFINITIONS: tuple[Definition, ...] = ("standard", "osmn40")
NDCG_AT = 100


def retrieval_figures(
    queries: np.ndarray,
    query_labels: np.ndarray,
    gallery: np.ndarray,
    gallery_labels: np.ndarray,
    own: np.ndarray | None = None,
    definition: Definition = "standard",
    k: int = NDCG_AT,
) -> dict[str, float]:
    """Return the means over the queries of what the definition measures.

    Args:
        queries: (Q, D) embeddings of any length.
        query_labels: (Q,) classes.
        gallery: (N, D) embeddings of any length.
        gallery_labels: (N,) classes; an item of the query's class is relevant, one with -1 never.
        own: (Q,) position of each query in the gallery, which it does not find; None: it is not there.
        definition: `standard` or `osmn40`, see the modules of these names.
        k: how far NDCG looks.

    Returns:
        `map`, `ndcg`, `anmrr` (0 is perfect), `nn`, `first_tier`, `second_tier`, `recall@1`, `recall@5`,
        `recall@10`; `queries` (how many have something relevant) and `excluded` (how many have not: the
        standard means leave them out). By `osmn40` there is no `ndcg` where fewer than k items are searched.

    Raises:
        ValueError: there is no query, or none with a relevant item; or shapes do not fit, a query has no
            label, or an embedding no direction.
    """
    return means(query_measures(queries, query_labels, gallery, gallery_labels, own, definition, k))


def query_measures(
    queries: np.ndarray,
    query_labels: np.ndarray,
    gallery: np.ndarray,
    gallery_labels: np.ndarray,
    own: np.ndarray | None = None,
    definition: Definition = "standard",
    k: int = NDCG_AT,
) -> dict[str, np.ndarray]:
    """Return what `retrieval_figures` averages, (Q,) float64 each; NaN where a query does not count."""
    if definition not in DEFINITIONS:
        raise ValueError(f"definition must be one of {DEFINITIONS}, got {definition!r}")
    asked, known = _labels(queries, query_labels, gallery, gallery_labels, own)
    targets, widest = len(known) - (own is not None), int(relevant_counts(asked, known, own).max())
    found: dict[str, np.ndarray] = {}
    for where, ranks, totals in ranks_of(queries, query_labels, gallery, gallery_labels, own):
        if definition == "standard":
            part = standard.measures(ranks, totals, widest, k)
        else:
            part = osmn40.measures(ranks, totals, widest, k, targets)
        for name, values in part.items():
            found.setdefault(name, np.empty(len(asked)))[where] = values
    return found


def ranks_of(
    queries: np.ndarray,
    query_labels: np.ndarray,
    gallery: np.ndarray,
    gallery_labels: np.ndarray,
    own: np.ndarray | None = None,
) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """Yield, in blocks, which queries, the ranks of their relevant items, and how many these are.

    The ranks are those of `relevant_ranks`; arguments and errors are those of `retrieval_figures`.
    """
    asked, known = _labels(queries, query_labels, gallery, gallery_labels, own)
    totals = relevant_counts(asked, known, own)
    if not totals.any():
        raise ValueError("no query has a relevant item in the gallery: nothing can be counted")
    blocks = ranked_blocks(directions(queries, "queries"), directions(gallery, "gallery"), own)
    for where, order in blocks:
        ranks = relevant_ranks(known[order] == asked[where, None], totals[where])
        yield where, ranks, totals[where]


def means(measured: dict[str, np.ndarray]) -> dict[str, float]:
    """Return the mean of each measure over the queries that count, how many do, and how many do not."""
    counted = ~np.isnan(measured["anmrr"])
    averages = {name: float(np.nanmean(values)) for name, values in measured.items()}
    return averages | {"queries": float(counted.sum()), "excluded": float((~counted).sum())}


def relevant_counts(
    query_labels: np.ndarray, gallery_labels: np.ndarray, own: np.ndarray | None = None
) -> np.ndarray:
    """Return how many items of each query's class it searches, int64 (Q,)."""
    asked, known = np.asarray(query_labels, np.int64), np.asarray(gallery_labels, np.int64)
    counts = np.bincount(known[known >= 0], minlength=int(asked.max(initial=0)) + 1)[asked]
    return counts - (known[own] == asked) if own is not None else counts


def relevant_ranks(relevant_BT: np.ndarray, totals_B: np.ndarray) -> np.ndarray:
    """Return the ranks from 1 of each query's relevant items, int64 (B, max G), 0 behind the last.

    Args:
        relevant_BT: bool, whether what is found at each rank is relevant.
        totals_B: how many are.
    """
    ranks = np.zeros((len(totals_B), int(totals_B.max(initial=0))), np.int64)
    rows, columns = np.nonzero(relevant_BT)
    first = np.cumsum(totals_B) - totals_B
    ranks[rows, np.arange(len(rows)) - first[rows]] = columns + 1
    return ranks


def _labels(
    queries: np.ndarray,
    query_labels: np.ndarray,
    gallery: np.ndarray,
    gallery_labels: np.ndarray,
    own: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray]:
    asked, known = np.asarray(query_labels, np.int64), np.asarray(gallery_labels, np.int64)
    if not len(asked):
        raise ValueError("there is no query: nothing can be searched")
    if asked.shape != (len(queries),) or known.shape != (len(gallery),):
        raise ValueError(f"expected a label for each of {len(queries)} queries and {len(gallery)} items")
    if np.shape(queries)[1:] != np.shape(gallery)[1:]:
        raise ValueError(f"expected equally wide embeddings, got {np.shape(queries)}, {np.shape(gallery)}")
    if (asked < 0).any():
        raise ValueError(f"{int((asked < 0).sum())} queries have no label: leave them out")
    if own is not None and (np.shape(own) != asked.shape or not _inside(own, len(known))):
        raise ValueError(f"expected the position among {len(known)} items of each of {len(asked)} queries")
    return asked, known


def _inside(own: np.ndarray, count: int) -> bool:
    return 0 <= int(np.min(own)) <= int(np.max(own)) < count
