from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeproof_configs.errors import DataError
from edgeproof_data.alike import Rows
from edgeproof_data.search.approximate import (
    FILE,
    ApproximateIndex,
    Kind,
    build_index,
    exact_nearest,
    recall_of,
)

pytest.importorskip("faiss")


def clustered(count: int, dim: int = 32) -> np.ndarray:
    draw = np.random.default_rng(0)
    rows = draw.normal(size=(40, dim))[draw.integers(0, 40, count)] + 0.6 * draw.normal(size=(count, dim))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)


def test_exact_nearest__is_a_sort_of_all_cosines() -> None:
    rows = clustered(300)
    scores = rows[:5].astype(np.float32) @ rows.astype(np.float32).T
    expected = np.argsort(-scores, axis=1)[:, :7]
    assert (exact_nearest(Rows(rows), rows[:5].astype(np.float32), 7) == expected).all()


@pytest.mark.parametrize("kind", ["ivf", "hnsw"])
def test_build_index__finds_what_it_says(kind: Kind, tmp_path: Path) -> None:
    rows = Rows(clustered(3_000))
    figures = build_index(rows, kind, tmp_path)
    assert figures.recall >= 0.95
    assert figures.size_bytes == (tmp_path / FILE).stat().st_size
    index = ApproximateIndex(tmp_path, rows, figures)
    queries = clustered(3_000)[::100].astype(np.float32)
    found = index.nearest(queries, 10)
    assert found.shape == (30, 10)
    assert recall_of(found, exact_nearest(rows, queries, 10)) >= 0.9
    # Each row of the collection is its own nearest.
    assert (found[:, 0] == np.arange(0, 3_000, 100)).mean() > 0.95


def test_approximate_index__cut(tmp_path: Path) -> None:
    rows = Rows(clustered(200))
    figures = build_index(rows, "ivf", tmp_path)
    data = (tmp_path / FILE).read_bytes()
    (tmp_path / FILE).write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match="missing or cut"):
        ApproximateIndex(tmp_path, rows, figures)


def test_recall_of__share_of_the_exact_answers() -> None:
    assert recall_of(np.array([[1, 2], [3, 4]]), np.array([[2, 1], [3, 5]])) == 0.75
