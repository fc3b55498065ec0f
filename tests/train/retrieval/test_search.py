from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from edgeproof_train.retrieval.search import BLOCK_SCORES, block_rows, directions, ranked_blocks, top_k


def rows(seed: int, count: int, dim: int = 16) -> np.ndarray:
    return directions(np.random.default_rng(seed).normal(size=(count, dim)), "rows")


def brute_force(queries: np.ndarray, gallery: np.ndarray, own: np.ndarray | None) -> np.ndarray:
    cosines = np.round(queries @ gallery.T, 9)
    if own is not None:
        cosines[np.arange(len(queries)), own] = -9
    order = np.argsort(-cosines, axis=1, kind="stable")
    return order if own is None else order[:, :-1]


@pytest.mark.parametrize("block", [1, 7, None])
@pytest.mark.parametrize("alone", [False, True])
def test_ranked_blocks__match_a_stable_sort(block: int | None, alone: bool) -> None:
    gallery = rows(0, 80)
    gallery[40:50] = gallery[:10]
    queries, own = (gallery, np.arange(80)) if alone else (rows(1, 30), None)
    found = [order for _, order in ranked_blocks(queries, gallery, own, block=block)]
    expected = brute_force(queries, gallery, own)
    np.testing.assert_array_equal(np.concatenate(found), expected)


@pytest.mark.parametrize("k", [1, 5, 79])
def test_top_k__are_the_first_of_the_ranking(k: int) -> None:
    gallery = rows(2, 80)
    gallery[3:9] = gallery[70]
    places, near = top_k(gallery, gallery, k, np.arange(80), block=11)
    np.testing.assert_array_equal(places, brute_force(gallery, gallery, np.arange(80))[:, :k])
    expected = np.take_along_axis(gallery @ gallery.T, places, axis=1)
    np.testing.assert_allclose(near, expected, atol=1e-9)


def test_top_k__of_too_few() -> None:
    with pytest.raises(ValueError, match="the 9 nearest of 8 items"):
        top_k(rows(0, 9), rows(0, 9), 9, np.arange(9))


@pytest.mark.parametrize("items", [1, 1000, 100_000, 20_000_000])
def test_block_rows__hold_no_more_than_the_bound(items: int) -> None:
    count = block_rows(items)
    assert count == 1 or count * items <= BLOCK_SCORES
    assert count >= 1


def test_ranked_blocks__memory_does_not_grow_with_the_queries() -> None:
    gallery, peaks = rows(3, 2000, 8), []
    for count in (400, 2000):
        tracemalloc.start()
        for _ in ranked_blocks(gallery[:count], gallery, block=50):
            pass
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # All 2,000 x 2,000 cosines at once would be 32 MB, and their keys as much again.
    assert peaks[1] < 1.05 * peaks[0]
    assert peaks[1] < 50 * 2000 * 8 * 5


def test_directions__of_what_has_none() -> None:
    with pytest.raises(ValueError, match="rows: 1 embeddings are zero or not finite, the first is row 2"):
        directions(np.array([[1, 0], [3, 4], [0, 0]]), "rows")
    with pytest.raises(ValueError, match="the first is row 0"):
        directions(np.array([[np.nan, 0], [3, 4]]), "rows")
    with pytest.raises(ValueError, match=r"expected embeddings \(N, D\)"):
        directions(np.zeros((0, 3)), "rows")
    np.testing.assert_allclose(directions(np.array([[3, 4]]), "rows"), [[0.6, 0.8]])
