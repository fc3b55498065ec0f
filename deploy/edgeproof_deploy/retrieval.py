"""Does a search with one form of the student find what a search with another finds?

Of images it is told whether something of the class is among the first few; of objects how good their whole
rankings are (mAP, NDCG, ANMRR), as retrieval of 3-D objects is measured.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from edgeproof_deploy.paired import difference_interval, mean_interval
from edgeproof_train.metrics import unit_rows
from edgeproof_train.retrieval.figures import query_measures

RECALL_AT = (1, 5, 10)
RANKED = ("map", "ndcg", "anmrr")
QUERIES = 1_000
BLOCK = 256
COSINE_DECIMALS = 6


class Gallery(NamedTuple):
    """Labelled objects that others search, and that ask nothing themselves.

    Attributes:
        reference: their embeddings by the form that is taken as right, (G, D), finite.
        candidate: the same of the other form.
        labels: int64 (G,), classes; -1 where an object has none.
    """

    reference: np.ndarray
    candidate: np.ndarray
    labels: np.ndarray


class Searched(NamedTuple):
    """Who asks and what is searched, as both forms embed it.

    Attributes:
        asking: embeddings (Q, D) of the queries by reference and candidate.
        asked: (Q,) their classes.
        sides: embeddings (N, D) of what is searched, by both.
        known: (N,) its classes.
        own: (Q,) position of each query in it; None where it is not there.
    """

    asking: tuple[np.ndarray, np.ndarray]
    asked: np.ndarray
    sides: tuple[np.ndarray, np.ndarray]
    known: np.ndarray
    own: np.ndarray | None


def searched_by(
    reference: np.ndarray, candidate: np.ndarray, labels: np.ndarray, gallery: Gallery | None = None
) -> Searched:
    """Return what labelled items search: the gallery if there is one, otherwise each other.

    Args:
        reference: embeddings (N, D).
        candidate: the same of the other form.
        labels: int64 (N,), classes; -1 where an item has none, which then neither asks nor is found.
        gallery: what is searched.
    """
    labelled = labels >= 0
    known, rows = labels[labelled], (reference[labelled], candidate[labelled])
    if gallery is None:
        own = queries_of(known)
        return Searched((rows[0][own], rows[1][own]), known[own], rows, known, own)
    there = gallery.labels >= 0
    found = gallery.labels[there]
    at = queries_of(known, found)
    sides = gallery.reference[there], gallery.candidate[there]
    return Searched((rows[0][at], rows[1][at]), known[at], sides, found, None)


def retrieval_changes(
    reference: np.ndarray,
    candidate: np.ndarray,
    labels: np.ndarray,
    text: np.ndarray | None,
    gallery: Gallery | None = None,
) -> dict[str, Any]:
    """Return recall@k of three searches with both forms, the change, and its 95 % bootstrap interval.

    A search is a hit at k if one of the k nearest has the query's class. An image that is as near as the
    first one of the right class, and of another class, stands before it.

    - `image_to_image`: each form searches its own embeddings, those of the gallery if there is one, of the
      images otherwise, the query left out.
    - `image_to_index`: the candidate searches embeddings of the reference, as a device does whose index was
      made elsewhere; the reference searches its own.
    - `text_to_image`: the words of a class search the same.

    From images to text, recall@1 and @5 are the top-1 and top-5 accuracy of zero-shot classification.

    Args:
        reference: embeddings (N, D), finite.
        candidate: the same of the other form.
        labels: int64 (N,), classes, and rows of `text`; -1 where an image has none.
        text: (K, D) embeddings of the words; None where there are none to search with.
        gallery: what is searched; None where the images search each other.

    Returns:
        `{search: {"queries": n, "recall": {k: {"reference", "candidate", "delta", "interval"}}}}`; a search
        that has no query is left out.
    """
    found = searched_by(reference, candidate, labels, gallery)
    known, asked, own = found.known, found.asked, found.own
    asking_a, asking_b = (unit_rows(rows).astype(np.float32) for rows in found.asking)
    a, b = (unit_rows(rows).astype(np.float32) for rows in found.sides)
    words = np.unique(known)
    before = hits(asking_a, a, asked, known, own)
    searches = {
        "image_to_image": (before, hits(asking_b, b, asked, known, own)),
        "image_to_index": (before, hits(asking_b, a, asked, known, own)),
    }
    if text is not None:
        sides = unit_rows(text[words]).astype(np.float32)
        searches["text_to_image"] = hits(sides, a, words, known), hits(sides, b, words, known)
    return {name: recalls(*pair) for name, pair in searches.items() if len(pair[0])}


def ranking_changes(
    reference: np.ndarray, candidate: np.ndarray, labels: np.ndarray, gallery: Gallery | None = None
) -> dict[str, dict[str, Any]] | None:
    """Return mAP, NDCG@100 and ANMRR of two searches with both forms, the change, and its 95 % interval.

    The searches are `image_to_image` and `image_to_index` of `retrieval_changes`; the measures are those of
    `edgeproof_train.retrieval.standard`, and the intervals are of a bootstrap over the queries.

    Args:
        reference: embeddings (N, D), finite.
        candidate: the same of the other form.
        labels: int64 (N,), classes; -1 where an item has none.
        gallery: what is searched; None where the items search each other.

    Returns:
        `{search: {"queries": n, "map": {"reference", "candidate", "delta", "interval"}, ...}}`; None where no
        item has another of its class to find, or an embedding is zero.
    """
    found = searched_by(reference, candidate, labels, gallery)
    known, asked, own = found.known, found.asked, found.own
    if not len(asked) or not all(rows.any(axis=1).all() for rows in (*found.asking, *found.sides)):
        return None
    (asking_a, asking_b), (a, b) = found.asking, found.sides
    before = query_measures(asking_a, asked, a, known, own)
    after = {
        "image_to_image": query_measures(asking_b, asked, b, known, own),
        "image_to_index": query_measures(asking_b, asked, a, known, own),
    }
    return {
        search: {"queries": len(asked)} | {name: changed(before[name], measured[name]) for name in RANKED}
        for search, measured in after.items()
    }


def changed(before: np.ndarray, after: np.ndarray) -> dict[str, Any]:
    """Return the mean of a measure (Q,) of both, the change, and its interval."""
    was, now = float(before.mean()), float(after.mean())
    return {
        "reference": was,
        "candidate": now,
        "delta": now - was,
        "interval": mean_interval(after - before),
    }


def queries_of(labels: np.ndarray, gallery_labels: np.ndarray | None = None) -> np.ndarray:
    """Return positions of at most `QUERIES` images that have something to find, evenly spread.

    Args:
        labels: (N,) classes from 0 up.
        gallery_labels: of what they search; None where they search each other, each for another one.
    """
    if gallery_labels is not None:
        usable = np.flatnonzero(np.isin(labels, gallery_labels))
    else:
        usable = np.flatnonzero(np.bincount(labels)[labels] > 1) if len(labels) else np.zeros(0, np.int64)
    if len(usable) <= QUERIES:
        return usable
    return usable[np.linspace(0, len(usable) - 1, QUERIES).astype(int)]


def hits(
    queries: np.ndarray,
    gallery: np.ndarray,
    query_labels: np.ndarray,
    gallery_labels: np.ndarray,
    own: np.ndarray | None = None,
) -> np.ndarray:
    """Return for each query whether it is a hit at each k of `RECALL_AT`, bool (Q, 3).

    Args:
        queries: unit rows (Q, D).
        gallery: unit rows (N, D).
        query_labels: (Q,) classes.
        gallery_labels: (N,) classes.
        own: (Q,) position of the query itself in the gallery, which is left out; None: it is not there.
    """
    found = np.zeros((len(queries), len(RECALL_AT)), bool)
    for start in range(0, len(queries), BLOCK):
        stop = min(start + BLOCK, len(queries))
        # Cosines that differ by less are in no order in fp32.
        near = np.round(queries[start:stop] @ gallery.T, COSINE_DECIMALS)
        if own is not None:
            near[np.arange(stop - start), own[start:stop]] = -np.inf
        right = query_labels[start:stop, None] == gallery_labels
        best = np.where(right, near, -np.inf).max(axis=1, keepdims=True)
        before = ((near >= best) & ~right).sum(axis=1)
        found[start:stop] = before[:, None] < np.array(RECALL_AT)
    return found


def recalls(reference: np.ndarray, candidate: np.ndarray) -> dict[str, Any]:
    """Return recall at each k of two tables of hits (Q, 3) over the same queries."""
    told = {}
    for column, k in enumerate(RECALL_AT):
        before, after = reference[:, column], candidate[:, column]
        told[str(k)] = {
            "reference": float(before.mean()),
            "candidate": float(after.mean()),
            "delta": float(after.mean() - before.mean()),
            "interval": difference_interval(before, after),
        }
    return {"queries": len(reference), "recall": told}
