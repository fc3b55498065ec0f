from __future__ import annotations

from typing import Any

import pytest

from edgeproof_benchmarks.answer_data import Neighbours, read_calibration, read_classes, read_space
from edgeproof_configs.errors import EdgeproofError


def test_read_classes__weakest_first(made_up: Any):
    rows = read_classes({"classes": list(reversed(made_up.per_class(6)["classes"]))})
    assert [row.f1 for row in rows] == sorted(row.f1 for row in rows)
    assert rows[0].precision is None
    assert [row.seen for row in rows].count(False) == 1


def test_read_calibration__bins_without_images_are_left_out(made_up: Any):
    plain = made_up.calibration()
    empty = {"low": 0.0, "high": 0.0667, "images": 0, "confidence": None, "accuracy": None}
    found = read_calibration(plain | {"bins": [empty, *plain["bins"]]})
    assert len(found.bins) == len(plain["bins"])
    assert (found.error, found.images) == (plain["ece"], plain["images"])


def test_read_space__every_part(made_up: Any):
    found = read_space(made_up.embedding(5, 30))
    assert [picture.method for picture in found.pictures] == ["PCA", "t-SNE"]
    assert found.pictures[0].note == "52 % of the variance"
    assert found.pictures[1].note.startswith("perplexity 9.7;")
    assert found.knn == Neighbours(nearest=0.93, accuracy=0.9, count=20, images=30)
    assert found.unseen == {found.labels[4]}


def test_read_space__without_neighbours(made_up: Any):
    assert read_space(made_up.embedding(3, 9) | {"knn": None}).knn is None


def test_read_space__points_must_fit_the_labels(made_up: Any):
    plain = made_up.embedding(3, 9)
    plain["label"].pop()
    with pytest.raises(EdgeproofError, match="expected 8 x 2"):
        read_space(plain)
