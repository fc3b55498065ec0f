from __future__ import annotations

import numpy as np
import pytest

from edgeproof_data import alike
from edgeproof_data.alike import Rows, alike_groups, alike_pairs, firsts_only
from edgeproof_data.near import linked_groups


def families(count: int, dim: int, spread: float, seed: int = 0) -> np.ndarray:
    """Return unit rows in families of three: cosines within a family are about 1 / (1 + spread^2)."""
    draw = np.random.default_rng(seed)
    centres = np.repeat(draw.normal(size=(count // 3, dim)), 3, axis=0)
    rows = centres + spread * draw.normal(size=centres.shape)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True))[draw.permutation(len(rows))].astype(
        np.float16
    )


def all_pairs(rows: np.ndarray, least: float) -> set[tuple[int, int]]:
    wide = rows.astype(np.float64)
    wide /= np.linalg.norm(wide, axis=1, keepdims=True)
    first, second = np.nonzero(np.triu(np.round(wide @ wide.T, 9) >= least, 1))
    return set(zip(first.tolist(), second.tolist(), strict=True))


@pytest.mark.parametrize("dim", [16, 64, 200])
@pytest.mark.parametrize("spread", [0.1, 0.22, 0.3])
def test_alike_pairs__are_those_of_all_comparisons(
    dim: int, spread: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alike, "ROWS_AT_ONCE", 32)
    monkeypatch.setattr(alike, "COLUMNS_AT_ONCE", 50)
    rows = families(150, dim, spread)
    found = {
        (int(one), int(other))
        for first, second, _ in alike_pairs(Rows(rows))
        for one, other in zip(first, second, strict=True)
    }
    expected = all_pairs(rows, 0.95)
    assert found == expected
    assert expected or spread > 0.25


def test_alike_pairs__tells_cosines() -> None:
    rows = np.array([[3.0, 0, 0], [0, 1, 0], [3, 0.1, 0]], np.float32)
    ((first, second, cosines),) = list(alike_pairs(Rows(rows)))
    assert (first.tolist(), second.tolist()) == ([0], [2])
    assert cosines[0] == pytest.approx(3 / np.hypot(3, 0.1), abs=1e-6)


def test_alike_groups__chains_and_many_links(monkeypatch: pytest.MonkeyPatch) -> None:
    angles = np.deg2rad([0, 15, 30, 90, 100, 170])
    rows = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    assert alike_groups(Rows(rows)) == [[0, 1, 2], [3, 4]]
    many = families(300, 32, 0.1)
    expected = alike_groups(Rows(many))
    monkeypatch.setattr(alike, "MOST_LINKS", 10)
    monkeypatch.setattr(alike, "ROWS_AT_ONCE", 20)
    assert alike_groups(Rows(many)) == expected
    assert len(expected) == 100


def test_firsts_only__one_of_each_and_what_is_alike_only_to_what_left() -> None:
    angles = np.deg2rad([0, 15, 30, 90])
    rows = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    assert firsts_only(Rows(rows)).tolist() == [True, False, True, True]


@pytest.mark.parametrize("count", [0, 1])
def test_alike_groups__nothing_to_compare(count: int) -> None:
    assert alike_groups(Rows(np.ones((count, 4), np.float32))) == []


def test_alike_pairs__no_cosine() -> None:
    with pytest.raises(ValueError, match=r"expected a cosine in \(0, 1\]"):
        next(alike_pairs(Rows(np.eye(3)), 1.5))


def test_linked_groups__largest_first() -> None:
    first, second = np.array([0, 4, 4]), np.array([1, 5, 2])
    assert linked_groups(first, second, 7) == [[2, 4, 5], [0, 1]]
    assert linked_groups(np.zeros(0, np.int64), np.zeros(0, np.int64), 3) == []
