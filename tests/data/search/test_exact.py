from __future__ import annotations

import numpy as np
import pytest

from edgeproof_data.alike import Rows
from edgeproof_data.search import exact
from edgeproof_data.search.exact import Floor, best_matches
from edgeproof_data.search.rules import Rules, choose


def unit(draw: np.random.Generator, count: int, dim: int = 24) -> np.ndarray:
    rows = draw.normal(size=(count, dim))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)


def by_hand(rows: np.ndarray, queries: np.ndarray, most: int) -> set[tuple[int, int]]:
    wide = rows.astype(np.float64)
    wide /= np.linalg.norm(wide, axis=1, keepdims=True)
    scores = (
        wide @ (queries.astype(np.float64) / np.linalg.norm(queries.astype(np.float64), axis=1)[:, None]).T
    )
    own = scores.argmax(axis=1)
    found = set()
    for query in range(len(queries)):
        mine = np.flatnonzero(own == query)
        best = mine[np.argsort(-scores[mine, query])][:most]
        found |= {(query, int(row)) for row in best}
    return found


@pytest.mark.parametrize("block", [7, 64, 1000])
def test_best_matches__are_those_of_a_full_table(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exact, "BLOCK_ROWS", block)
    draw = np.random.default_rng(0)
    rows, queries = unit(draw, 400), unit(draw, 6)
    found = best_matches(Rows(rows), queries.astype(np.float32), 5)
    assert set(zip(found.queries.tolist(), found.rows.tolist(), strict=True)) == by_hand(rows, queries, 5)


def test_best_matches__floor_margin_and_a_single_query() -> None:
    rows = np.array([[1, 0], [0.8, 0.6], [0.6, 0.8], [0, 1]], np.float32)
    queries = np.eye(2, dtype=np.float32)
    assert sorted(best_matches(Rows(rows), queries, 9, Floor(score=0.9)).rows.tolist()) == [0, 3]
    assert sorted(best_matches(Rows(rows), queries, 9, Floor(margin=0.3)).rows.tolist()) == [0, 3]
    alone = best_matches(Rows(rows), queries[:1], 9, Floor(margin=0.3))
    assert len(alone) == 4
    assert np.isnan(alone.margins).all()
    assert best_matches(Rows(rows), queries, 9, among=np.array([1])).rows.tolist() == [1]
    with pytest.raises(ValueError, match="rows of 2 values, queries of 3"):
        best_matches(Rows(rows), np.eye(3, dtype=np.float32), 9)


@pytest.mark.parametrize("seed", range(4))
def test_choose__the_order_of_the_images_does_not_matter(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exact, "BLOCK_ROWS", 50)
    draw = np.random.default_rng(1)
    rows = np.concatenate([unit(draw, 150)] * 2)  # Each image twice: every score is there twice.
    names = [f"{place:03d}.jpg" for place in draw.permutation(len(rows))]
    queries = unit(draw, 4).astype(np.float32)
    rules = Rules(8, Floor(0.1, 0.01), alike=0.95, balance=2.0)

    def answer(order: np.ndarray) -> list[tuple[str, int, float]]:
        vectors, named = Rows(rows[order]), [names[place] for place in order]
        found = best_matches(vectors, queries, rules.candidates, rules.floor)
        kept = choose(found, named, vectors, rules).kept
        return [
            (named[row], query, score)
            for row, query, score in zip(
                kept.rows.tolist(), kept.queries.tolist(), kept.scores.tolist(), strict=True
            )
        ]

    straight = answer(np.arange(len(rows)))
    assert answer(np.random.default_rng(seed).permutation(len(rows))) == straight
    assert len(straight) > 8


def test_choose__twins_cap_and_balance() -> None:
    angles = np.deg2rad([0, 2, 20, 40, 88, 90])
    rows = Rows(np.stack([np.cos(angles), np.sin(angles)], axis=1))
    queries = np.eye(2, dtype=np.float32)
    names = list("abcdef")
    found = best_matches(rows, queries, 9)
    twins = choose(found, names, rows, Rules(9, Floor(), alike=0.99))
    assert [names[row] for row in twins.kept.rows] == ["a", "c", "d", "f"]
    assert twins.alike == 2
    capped = choose(found, names, rows, Rules(1, Floor()))
    assert ([names[row] for row in capped.kept.rows], capped.over_cap) == (["a", "f"], 4)
    balanced = choose(found, names, rows, Rules(9, Floor(), balance=1.5))
    assert (len(balanced.kept), balanced.over_balance) == (5, 1)
