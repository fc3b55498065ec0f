"""Nearest neighbours: how well the classes lie together in a space of embeddings, with nothing trained."""

from __future__ import annotations

import numpy as np

from edgeproof_train.metrics import topk_accuracy, unit_rows

NEIGHBOURS = 20
TEMPERATURE = 0.07
BLOCK = 1024


def knn_votes(
    gallery_ND: np.ndarray,
    labels_N: np.ndarray,
    queries_MD: np.ndarray | None = None,
    *,
    classes: int,
    k: int = NEIGHBOURS,
    temperature: float = TEMPERATURE,
    block: int = BLOCK,
) -> np.ndarray:
    """Return the votes (M, K) of each query's k nearest gallery images for their classes, float64.

    A neighbour at cosine s votes `exp(s / temperature)` (arXiv 1805.01978), here divided by the vote of the
    nearest one, which changes no share. Of equally near images the first ones in the gallery count.

    Args:
        gallery_ND: embeddings of any length.
        labels_N: their classes, 0 to K - 1.
        queries_MD: embeddings of any length; None asks each gallery image about the others (leave one out).
        classes: K.
        k: how many neighbours vote.
        temperature: how fast the weight of a neighbour falls with its distance.
        block: queries that are compared at once.

    Raises:
        ValueError: fewer than k neighbours, a label that is no class, or a vector without direction.
    """
    labels, among_themselves = np.asarray(labels_N), queries_MD is None
    gallery = _directions(gallery_ND, "gallery")
    queries = gallery if queries_MD is None else _directions(queries_MD, "queries")
    if labels.shape != (len(gallery),) or (labels < 0).any() or (labels >= classes).any():
        raise ValueError(f"expected a label from 0 to {classes - 1} for each of {len(gallery)} images")
    available = len(gallery) - among_themselves
    if not 1 <= k <= available:
        raise ValueError(f"{k} neighbours of {available}: k must be 1 to {available}")
    votes = np.zeros((len(queries), classes))
    for start in range(0, len(queries), block):
        scores = queries[start : start + block] @ gallery.T
        rows = np.arange(len(scores))
        if among_themselves:
            scores[rows, start + rows] = -np.inf
        near = nearest(scores, k)
        chosen = np.take_along_axis(scores, near, axis=1)
        weights = np.exp((chosen - chosen[:, :1]) / temperature)
        np.add.at(votes, (start + rows[:, None], labels[near]), weights)
    return votes


def knn_metrics(
    gallery_ND: np.ndarray,
    labels_N: np.ndarray,
    queries_MD: np.ndarray | None = None,
    query_labels_M: np.ndarray | None = None,
    *,
    classes: int,
    k: int = NEIGHBOURS,
) -> dict[str, float]:
    """Return `knn1` and `knn<k>`: the share of queries whose nearest neighbour, and whose k, name the class.

    Without queries each gallery image is asked about the others: the purity of the classes. Images with a
    negative label are left out on both sides.
    """
    known = np.asarray(labels_N) >= 0
    gallery, labels = np.asarray(gallery_ND)[known], np.asarray(labels_N)[known]
    queries, wanted = None, labels
    if queries_MD is not None and query_labels_M is not None:
        asked = np.asarray(query_labels_M) >= 0
        queries, wanted = np.asarray(queries_MD)[asked], np.asarray(query_labels_M)[asked]
    elif queries_MD is not None or query_labels_M is not None:
        raise ValueError("queries and their labels go together")
    return {
        f"knn{count}": topk_accuracy(knn_votes(gallery, labels, queries, classes=classes, k=count), wanted)
        for count in dict.fromkeys((1, k))
    }


def fair_neighbours(labels_N: np.ndarray) -> int:
    """Return how many neighbours to ask among labelled images: 20, and no more than a class has others.

    With more of them the other classes would outvote an image's own, however near it lies. 0 where no class
    has two images.

    Args:
        labels_N: classes from 0 up; a negative one is none.
    """
    known = np.asarray(labels_N)
    counts = np.bincount(known[known >= 0])
    return min(NEIGHBOURS, max(int(counts.max(initial=0)) - 1, 0))


def nearest(scores_MN: np.ndarray, k: int) -> np.ndarray:
    """Return the columns (M, k) of the k highest scores of each row, in order, equal ones by position."""
    kth = np.partition(scores_MN, -k, axis=1)[:, -k][:, None]
    above, level = scores_MN > kth, scores_MN == kth
    places_left = k - above.sum(axis=1, keepdims=True)
    chosen = above | (level & (np.cumsum(level, axis=1) <= places_left))
    columns = np.nonzero(chosen)[1].reshape(len(scores_MN), k)
    order = np.argsort(-np.take_along_axis(scores_MN, columns, axis=1), axis=1, kind="stable")
    return np.take_along_axis(columns, order, axis=1)


def _directions(rows: np.ndarray, name: str) -> np.ndarray:
    wide = np.asarray(rows, np.float64)
    if not np.isfinite(wide).all() or not wide.any(axis=1).all():
        raise ValueError(f"{name}: some embeddings are zero or not finite and have no direction")
    return unit_rows(wide)
