"""Tables of classes and images, by hand."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from edgeproof.evaluation.tables import write_classes, write_confusion, write_features, write_images
from edgeproof_data.sets import ImageSet

NAMES = ("ant", "bee", "cat", "dog")
TRUE = np.array([0, 0, 0, 1, 1, 2])
PREDICTED = np.array([0, 0, 1, 1, 1, 1])


def rows_of(file: Path) -> list[list[str]]:
    with file.open(newline="") as handle:
        return list(csv.reader(handle))


def test_write_classes__precision_recall_and_f1(tmp_path: Path) -> None:
    write_classes(tmp_path / "t.csv", NAMES, TRUE, PREDICTED)
    assert rows_of(tmp_path / "t.csv") == [
        ["class", "images", "right", "precision", "recall", "f1"],
        ["ant", "3", "2", "1.000000", "0.666667", "0.800000"],
        ["bee", "2", "2", "0.500000", "1.000000", "0.666667"],
        ["cat", "1", "0", "0.000000", "0.000000", "0.000000"],
    ]


def test_write_confusion__rows_are_true_classes(tmp_path: Path) -> None:
    write_confusion(tmp_path / "t.csv", NAMES, TRUE, np.array([0, 0, 1, 3, 1, 1]))
    assert rows_of(tmp_path / "t.csv") == [
        ["true \\ predicted", "ant", "bee", "cat", "dog"],
        ["ant", "2", "1", "0", "0"],
        ["bee", "0", "1", "0", "1"],
        ["cat", "0", "1", "0", "0"],
        ["dog", "0", "0", "0", "0"],
    ]


def test_write_images__right_and_wrong_the_surest_first(tmp_path: Path) -> None:
    paths = [f"{letter}.jpg" for letter in "abcdef"]
    write_images(tmp_path, paths, NAMES, TRUE, PREDICTED, np.array([0.5, 0.9, 0.6, 0.7, 0.8, 0.95]))
    assert [row[0] for row in rows_of(tmp_path / "right.csv")[1:]] == ["b.jpg", "e.jpg", "d.jpg", "a.jpg"]
    assert rows_of(tmp_path / "wrong.csv")[1:] == [
        ["f.jpg", "cat", "bee", "0.950000"],
        ["c.jpg", "ant", "bee", "0.600000"],
    ]


def test_write_features__a_row_for_each_image(tmp_path: Path) -> None:
    images = ImageSet(tmp_path, ("a, b.jpg", "c.jpg"), np.array([1, -1]), NAMES)
    features = np.arange(6, dtype=np.float32).reshape(2, 3)
    write_features(tmp_path, features, images)
    assert (np.load(tmp_path / "features.npy") == features).all()
    assert rows_of(tmp_path / "features.csv") == [["path", "label"], ["a, b.jpg", "bee"], ["c.jpg", ""]]
