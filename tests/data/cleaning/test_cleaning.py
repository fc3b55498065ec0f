from __future__ import annotations

import numpy as np
import pytest

from edgeproof_data.check import ScanReport
from edgeproof_data.cleaning.cleaning import SAME_BYTES, SAME_MEANING, Sieve
from edgeproof_data.split_table import Entry


def report(**found: object) -> ScanReport:
    empty: dict[str, object] = {
        "checked": 0,
        "ok": 0,
        "corrupt": [],
        "empty": [],
        "too_small": [],
        "duplicates": [],
        "leaks": [],
        "near_duplicates": None,
    }
    return ScanReport(**{**empty, **found})  # pyright: ignore[reportArgumentType]


class Known:
    """Embeddings by path."""

    def __init__(self, **rows: list[float]):
        self.found = {name: np.array(row, np.float32) for name, row in rows.items()}

    def vectors(self, paths: list[str]) -> Known:
        self.matrix = np.stack([self.found[path] for path in paths])
        return self

    def __len__(self) -> int:
        return len(self.matrix)

    def rows(self, indices: np.ndarray) -> np.ndarray:
        return self.matrix[indices]


def test_sieve__twins_leave_the_image_of_test_then_of_val_then_of_train() -> None:
    entries = [
        Entry("train/a", "train", "x"),
        Entry("test/z", "test", "x"),
        Entry("val/b", "val", "y"),
        Entry("train/c", "train", "x"),
        Entry("train/d", "train", "x"),
    ]
    sieve = Sieve(entries)
    sieve.take_out_twins([["train/a", "val/b", "test/z"], ["train/c", "train/d", "gone"]], SAME_BYTES)
    result = sieve.result()
    assert [one.path for one in result.kept] == ["test/z", "train/c"]
    assert [(one.entry.path, one.detail) for one in result.removed] == [
        ("val/b", "test/z"),
        ("train/a", "test/z"),
        ("train/d", "train/c"),
    ]
    assert result.leaks() == {"val in test": 1, "train in test": 1}
    assert result.conflicts == [("val/b", "test/z")]
    assert "  1 of these leaked: train in test" in result.lines()
    assert sorted([*result.kept, *(one.entry for one in result.removed)]) == sorted(entries)


def test_sieve__unusable_images_are_gone_before_twins_are_chosen() -> None:
    sieve = Sieve(
        [Entry("a", "test", ""), Entry("b", "train", ""), Entry("c", "train", ""), Entry("d", "train", "")]
    )
    sieve.take_out_unusable(report(corrupt=[("a", "cut")], empty=["c"], too_small=[("d", 7)]))
    sieve.take_out_twins([["a", "b"]], SAME_BYTES)
    result = sieve.result()
    assert [one.path for one in result.kept] == ["b"]
    assert result.counts() == {"corrupt": 1, "empty": 1, "too small": 1}
    assert [one.detail for one in result.removed] == ["cut", "", "7 px"]


def test_sieve__meaning() -> None:
    sieve = Sieve([Entry(path, "train", "x") for path in "abc"])
    known = Known(a=[1, 0], b=[0, 1], c=[1, 0.05])
    sieve.take_out_alike(known, 0.95)  # pyright: ignore[reportArgumentType]
    assert [(one.entry.path, one.reason, one.detail) for one in sieve.result().removed] == [
        ("c", SAME_MEANING, "a")
    ]


@pytest.mark.parametrize(
    ("floor", "agree", "left"),
    [(-1.0, False, "abct"), (0.7, False, "at"), (-1.0, True, "act"), (2.0, True, "t")],
)
def test_sieve__words_are_asked_of_training_images_only(floor: float, agree: bool, left: str) -> None:
    entries = [
        Entry("a", "train", "x"),
        Entry("b", "train", "x"),
        Entry("c", "train", "y"),
        Entry("t", "test", "x"),
    ]
    sieve = Sieve(entries)
    known = Known(a=[1, 0], b=[0.6, 0.8], c=[0.75, 0.66], t=[0, 1])
    words = {"x": np.array([1, 0], np.float32), "y": np.array([0.8, 0.6], np.float32)}
    if agree and floor < 0:
        words["y"] = np.array([0.6, 0.8], np.float32)
        known.found["c"] = np.array([0.6, 0.8], np.float32)
    if floor == 0.7:
        words["y"] = np.array([0, 1], np.float32)
    sieve.take_out_unfitting(known, words, floor, agree)  # pyright: ignore[reportArgumentType]
    assert "".join(one.path for one in sieve.result().kept) == left
