from __future__ import annotations

import numpy as np
import pytest

from edgeproof_train.retrieval.faiss_search import faiss_top_k, recall_of
from edgeproof_train.retrieval.search import directions, top_k

pytest.importorskip("faiss")


def rows(seed: int, count: int) -> np.ndarray:
    return 3 * np.random.default_rng(seed).normal(size=(count, 24))


@pytest.mark.parametrize("alone", [False, True])
def test_faiss_top_k__flat_finds_what_the_exact_search_finds(alone: bool) -> None:
    gallery = rows(0, 300)
    queries, own = (gallery, np.arange(300)) if alone else (rows(1, 50), None)
    found, near = faiss_top_k(queries, gallery, 10, own)
    exact, cosines = top_k(directions(queries, "q"), directions(gallery, "g"), 10, own)
    assert recall_of(found, exact) == 1
    np.testing.assert_allclose(near, cosines, atol=2e-6)
    if alone:
        assert (found != np.arange(300)[:, None]).all()


def test_faiss_top_k__a_graph_finds_most() -> None:
    gallery, queries = rows(2, 3000), rows(3, 100)
    exact = top_k(directions(queries, "q"), directions(gallery, "g"), 10)[0]
    assert 0.9 < recall_of(faiss_top_k(queries, gallery, 10, index="hnsw")[0], exact) <= 1


def test_faiss_top_k__leaves_the_last_out_where_the_query_is_not_found() -> None:
    # Both copies are as near: the search may meet one of them first, and never the query itself twice.
    gallery = np.repeat(rows(4, 5), 4, axis=0)
    found, _ = faiss_top_k(gallery, gallery, 3, np.arange(20))
    assert found.shape == (20, 3)
    assert (found != np.arange(20)[:, None]).all()
    assert (found // 4 == np.arange(20)[:, None] // 4).all()


def test_recall_of__is_the_share_that_was_found() -> None:
    assert recall_of(np.array([[1, 2], [3, 4]]), np.array([[2, 9], [4, 3]])) == 0.75
    with pytest.raises(ValueError, match="equal shapes"):
        recall_of(np.zeros((2, 2)), np.zeros((2, 3)))
    with pytest.raises(ValueError, match="k must be 1 to 4"):
        faiss_top_k(rows(0, 5), rows(0, 5), 5, np.arange(5))
