"""The nearest items by faiss: exact, or approximate for collections that an exact search is too slow for."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from edgeproof_configs.errors import MissingPackageError
from edgeproof_train.retrieval.search import directions

Index = Literal["flat", "hnsw"]
LINKS = 32
"""Neighbours that each item of the graph is joined to."""
BREADTH = 128
"""Candidates that are kept open while the graph is made, and while it is searched."""


def faiss_top_k(
    queries_QD: np.ndarray,
    gallery_ND: np.ndarray,
    k: int,
    own_Q: np.ndarray | None = None,
    index: Index = "flat",
) -> tuple[np.ndarray, np.ndarray]:
    """Return the positions (Q, k), int64, of the nearest items, and their cosines, float32.

    Of equally near items either may come first.

    Args:
        queries_QD: embeddings of any length.
        gallery_ND: embeddings of any length.
        k: how many.
        own_Q: (Q,) position of each query in the gallery, which it does not find; None: it is not there.
        index: `flat` compares each query with all items; `hnsw` follows a graph (Malkov and Yashunin, arXiv
            1603.09320) and misses some: say `recall_of` its answers with any figure that rests on them.

    Raises:
        MissingPackageError: faiss is not installed.
        ValueError: there are not so many items, or an embedding has no direction.
    """
    queries = directions(queries_QD, "queries").astype(np.float32)
    gallery = directions(gallery_ND, "gallery").astype(np.float32)
    targets = len(gallery) - (own_Q is not None)
    if not 1 <= k <= targets:
        raise ValueError(f"the {k} nearest of {targets} items: k must be 1 to {targets}")
    near, places = made(gallery, index).search(queries, k + (own_Q is not None))
    if own_Q is not None:
        near, places = without_own(near, places, own_Q)
    return places.astype(np.int64), near


def made(gallery_ND: np.ndarray, index: Index) -> Any:
    """Return a faiss index of unit rows, float32."""
    try:
        import faiss
    except ModuleNotFoundError as error:
        raise MissingPackageError(
            f"package '{error.name}' is needed for this search", fix="pip install 'edgeproof[data]'"
        ) from error
    dim = gallery_ND.shape[1]
    found: Any = faiss.IndexFlatIP(dim)
    if index == "hnsw":
        found = faiss.IndexHNSWFlat(dim, LINKS, faiss.METRIC_INNER_PRODUCT)
        found.hnsw.efConstruction, found.hnsw.efSearch = BREADTH, BREADTH
    found.add(gallery_ND)
    return found


def without_own(
    near_QK: np.ndarray, places_QK: np.ndarray, own_Q: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return cosines and positions without each query itself; without the last where it was not found."""
    foreign = places_QK != np.asarray(own_Q)[:, None]
    foreign[foreign.all(axis=1), -1] = False
    shape = (len(places_QK), places_QK.shape[1] - 1)
    return near_QK[foreign].reshape(shape), places_QK[foreign].reshape(shape)


def recall_of(found_QK: np.ndarray, exact_QK: np.ndarray) -> float:
    """Return the share of the nearest items that a search found, by two tables of positions (Q, k)."""
    if np.shape(found_QK) != np.shape(exact_QK):
        raise ValueError(f"expected equal shapes, got {np.shape(found_QK)} and {np.shape(exact_QK)}")
    hits = [len(np.intersect1d(found, exact)) for found, exact in zip(found_QK, exact_QK, strict=True)]
    return float(np.mean(hits)) / np.shape(exact_QK)[1]
