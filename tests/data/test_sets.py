from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeproof_data.sets import ImageSet, unlabelled


def test_image_set__subset_keeps_order_and_names():
    images = ImageSet(Path("/d"), ("a.jpg", "b.jpg", "c.jpg"), np.array([1, 0, 1]), ("cat", "dog"))
    part = images.subset([2, 0])
    assert part.paths == ("c.jpg", "a.jpg")
    assert part.labels.tolist() == [1, 1]
    assert part.class_names == ("cat", "dog")
    assert part.file(0) == Path("/d/c.jpg")
    assert len(images.subset([])) == 0


@pytest.mark.parametrize("labels", [np.array([0]), np.array([0, 2]), np.array([-2, 0]), np.array([0.0, 1.0])])
def test_image_set__labels_that_cannot_be(labels: np.ndarray):
    with pytest.raises(ValueError, match="labels"):
        ImageSet(Path("/d"), ("a.jpg", "b.jpg"), labels, ("cat", "dog"))


def test_unlabelled__has_no_classes():
    images = unlabelled(Path("/d"), ["a.jpg", "b.jpg"])
    assert images.labels.tolist() == [-1, -1]
    assert images.class_names == ()
