"""A faiss index over a collection that is too large to be compared as a whole for every search.

What it finds is ranked again by the exact cosines, and how much of the exact answer it finds is measured when
it is built: how many cells (or candidates) it looks at is raised until that is enough.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgeproof_configs.errors import DataError, EdgeproofError, MissingPackageError
from edgeproof_configs.files import explain_os_errors
from edgeproof_configs.progress import progress
from edgeproof_data.alike import Vectors

Kind = Literal["ivf", "hnsw"]
FILE = "index.faiss"
LARGE = 2_000_000
"""From so many images on a collection gets an approximate index where nothing else is said."""
LEAST_RECALL = 0.95
NEAREST = 10
ASKED = 256
"""Rows of the collection that stand as queries where recall is measured."""
ROWS_AT_ONCE = 32_768
TRAINING_ROWS_A_CELL = 64
LINKS, BREADTH = 32, 128
AGAIN = 4
"""So many times what is wanted is fetched and ranked again by exact cosines."""


@dataclass(frozen=True)
class IndexFigures:
    """What was built, and what it finds.

    Attributes:
        kind: `ivf` (cells of similar rows) or `hnsw` (a graph; Malkov and Yashunin, arXiv 1603.09320).
        effort: cells, or candidates, that a search looks at.
        recall: share of the exact 10 nearest rows that were found, for rows of the collection as queries.
        asked: how many queries that was measured with.
        size_bytes: of the file.
    """

    kind: Kind
    effort: int
    recall: float
    asked: int
    size_bytes: int

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)


def build_index(vectors: Vectors, kind: Kind, folder: Path) -> IndexFigures:
    """Build an index, measure it, and write it into a folder.

    Raises:
        MissingPackageError: faiss is not installed.
        EdgeproofError: it finds too little of the exact answer, or the disk is full.
    """
    faiss = _faiss()
    count, dim = len(vectors), vectors.rows([0]).shape[1]
    if kind == "ivf":
        cells = max(1, min(1 << round(np.log2(max(count, 1)) / 2), count))
        index: Any = faiss.index_factory(dim, f"IVF{cells},SQ8", faiss.METRIC_INNER_PRODUCT)
        index.train(vectors.rows(_spread(count, cells * TRAINING_ROWS_A_CELL)))
    else:
        index = faiss.IndexHNSWSQ(dim, faiss.ScalarQuantizer.QT_fp16, LINKS, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = BREADTH
        index.train(vectors.rows(_spread(count, ROWS_AT_ONCE)))
    with progress(f"index ({kind})", count, "images") as shown:
        for start in range(0, count, ROWS_AT_ONCE):
            places = np.arange(start, min(start + ROWS_AT_ONCE, count))
            index.add(vectors.rows(places))
            shown.advance(len(places))
    effort, recall, asked = _tuned(index, vectors, kind)
    file = folder / FILE
    temporary = file.with_name(f".{FILE}.new")
    with explain_os_errors(file):
        folder.mkdir(parents=True, exist_ok=True)
        faiss.write_index(index, str(temporary))
        os.replace(temporary, file)
    return IndexFigures(kind, effort, recall, asked, file.stat().st_size)


class ApproximateIndex:
    """An index that was built, opened to be searched."""

    def __init__(self, folder: Path, vectors: Vectors, figures: IndexFigures):
        """Open it.

        Raises:
            DataError: its file is missing or cut.
        """
        file = folder / FILE
        if not file.is_file() or file.stat().st_size != figures.size_bytes:
            raise DataError(
                "the index is missing or cut", where=file, fix="make it again: edgeproof data index"
            )
        self.vectors, self.figures = vectors, figures
        self._index: Any = _faiss().read_index(str(file))
        _set_effort(self._index, figures.kind, figures.effort)

    def nearest(self, queries_QD: NDArray[np.float32], k: int) -> NDArray[np.int64]:
        """Return the nearest rows (Q, k), ranked by exact cosine; -1 where it found fewer."""
        return _nearest(self._index, self.vectors, queries_QD, min(k, len(self.vectors)))


def recall_of(found_QK: NDArray[np.int64], exact_QK: NDArray[np.int64]) -> float:
    """Return the share of the exact answers that were found."""
    hits = [len(np.intersect1d(one, other)) for one, other in zip(found_QK, exact_QK, strict=True)]
    return sum(hits) / exact_QK.size


def exact_nearest(vectors: Vectors, queries_QD: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Return the nearest rows (Q, k) by comparing all, in blocks."""
    best = np.full((len(queries_QD), k), -np.inf, np.float32)
    places = np.full((len(queries_QD), k), -1, np.int64)
    for start in range(0, len(vectors), ROWS_AT_ONCE):
        rows = np.arange(start, min(start + ROWS_AT_ONCE, len(vectors)))
        scores = queries_QD @ vectors.rows(rows).T
        scores = np.concatenate([best, scores], axis=1)
        all_places = np.concatenate([places, np.broadcast_to(rows, (len(queries_QD), len(rows)))], axis=1)
        order = np.argpartition(-scores, k - 1, axis=1)[:, :k]
        best, places = np.take_along_axis(scores, order, 1), np.take_along_axis(all_places, order, 1)
    return np.take_along_axis(places, np.argsort(-best, axis=1, kind="stable"), 1)


def _tuned(index: Any, vectors: Vectors, kind: Kind) -> tuple[int, float, int]:
    """Return effort, recall and number of queries; effort is doubled until recall is enough."""
    asked = _spread(len(vectors), ASKED)
    queries, k = vectors.rows(asked), min(NEAREST + 1, len(vectors))
    exact = exact_nearest(vectors, queries, k)
    highest = index.nlist if kind == "ivf" else len(vectors)
    effort, recall = min(8, highest), 0.0
    while True:
        _set_effort(index, kind, effort)
        recall = recall_of(_without(_nearest(index, vectors, queries, k), asked), _without(exact, asked))
        if recall >= LEAST_RECALL or effort == highest:
            break
        effort = min(effort * 2, highest)
    if recall < LEAST_RECALL:
        raise EdgeproofError(
            f"an index of kind {kind} finds only {recall:.3f} of the exact neighbours here",
            fix="take --index exact, or --index ivf",
        )
    return effort, round(recall, 4), len(asked)


def _without(places_QK: NDArray[np.int64], own_Q: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the neighbours without the query itself, or without the last where it is not among them."""
    others = places_QK != own_Q[:, None]
    others[others.all(axis=1), -1] = False
    return places_QK[others].reshape(len(places_QK), -1)


def _nearest(index: Any, vectors: Vectors, queries_QD: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    queries = np.ascontiguousarray(queries_QD, np.float32)
    _, places = index.search(queries, min(k * AGAIN, len(vectors)))
    found = np.full((len(queries), k), -1, np.int64)
    for row, (query, near) in enumerate(zip(queries, places, strict=True)):
        near = near[near >= 0]
        order = np.argsort(-(vectors.rows(near) @ query), kind="stable")[:k]
        found[row, : len(order)] = near[order]
    return found


def _set_effort(index: Any, kind: Kind, effort: int) -> None:
    if kind == "ivf":
        index.nprobe = effort
    else:
        index.hnsw.efSearch = effort


def _spread(count: int, wanted: int) -> NDArray[np.int64]:
    """Return evenly spaced positions."""
    return np.unique(np.linspace(0, count - 1, min(count, wanted)).round().astype(np.int64))


def _faiss() -> Any:
    try:
        import faiss
    except ModuleNotFoundError as error:
        raise MissingPackageError(
            f"package '{error.name}' is needed for an approximate index",
            fix="pip install 'edgeproof[data]', or take --index exact",
        ) from error
    return faiss
