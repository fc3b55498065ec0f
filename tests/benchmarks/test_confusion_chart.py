from __future__ import annotations

import numpy as np
import pytest

from edgeproof_benchmarks.confusion_chart import class_accuracies, confused_pairs, confusion_matrix
from edgeproof_benchmarks.report_data import Confusion

THREE = Confusion(
    ("cat", "dog", "owl"), np.array([[8, 2, 0], [1, 4, 5], [0, 0, 0]], dtype=np.int64), frozenset({"dog"})
)


def test_class_accuracies__weakest_first_and_none_without_images():
    found = class_accuracies(THREE)
    assert [(one.name, one.accuracy, one.seen) for one in found] == [("dog", 0.4, False), ("cat", 0.8, True)]


def test_confused_pairs__most_frequent_first():
    assert confused_pairs(THREE, 2) == [("dog", "owl", 5, 0.5), ("cat", "dog", 2, 0.2)]


def test_confused_pairs__no_more_than_there_are():
    assert len(confused_pairs(THREE, 50)) == 3


def test_confusion_matrix__a_square_for_every_count_that_is_not_zero():
    drawn = confusion_matrix(THREE)
    assert drawn.count('class="right"') == 2
    assert drawn.count('class="wrong"') == 3
    assert "<title>dog → owl: 5 (50 %)</title>" in drawn
    assert "12 of 20 answers on the diagonal (60.0 %)" in drawn


@pytest.mark.parametrize("count", [2, 30, 100])
def test_confusion_matrix__names_each_class_twice(count: int):
    names = tuple(f"class {index}" for index in range(count))
    drawn = confusion_matrix(Confusion(names, np.eye(count, dtype=np.int64)))
    assert drawn.count(f">{names[-1]}</text>") == 2
