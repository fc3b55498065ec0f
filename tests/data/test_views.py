from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgeproof_configs.files import digest_of
from edgeproof_configs.schema import AugmentConfig
from edgeproof_data.sets import ImageSet, unlabelled
from edgeproof_data.views import View
from edgeproof_deploy.runtime.preprocess import Preprocess

PREPROCESS = Preprocess(16, 18)
FLIP = {
    "random_resized_crop": None,
    "shift_pixels": 0,
    "flip": 0.5,
    "policy": None,
    "policy_magnitude": None,
    "policy_operations": None,
    "color_jitter": 0.0,
    "rotate_degrees": 0.0,
    "erase": 0.0,
    "cutout": 0.0,
}
"""Settings as the first version that stored views wrote them into a cache's key."""


@pytest.fixture
def images(make_images: Callable[..., Path]) -> ImageSet:
    return unlabelled(make_images("a.png", "b.png"), ["a.png", "b.png"])


def test_identity__is_that_of_the_first_version_while_later_changes_are_off(images: ImageSet) -> None:
    view = View(images, PREPROCESS, AugmentConfig(flip=0.5), 3)
    digest = digest_of({"augment": FLIP, "student": PREPROCESS.to_dict()})[:16]
    assert view.identity() == f"view 3 of {digest}"


def test_identity__says_every_change_that_is_on(images: ImageSet) -> None:
    settings: list[dict[str, int]] = [{}, {"shift_pixels": 2}, {"pad_pixels": 2}, {"pad_pixels": 4}]
    views = [View(images, PREPROCESS, AugmentConfig.model_validate(each), 0) for each in settings]
    assert len({view.identity() for view in views}) == 4


def test_batches__the_same_view_again_whatever_the_batches(images: ImageSet) -> None:
    view = View(images, PREPROCESS, AugmentConfig(flip=0.5, pad_pixels=4), 1)
    (_, whole), *_ = view.batches(np.array([0, 1]), 2)
    parts = [image for _, image in view.batches(np.array([0, 1]), 1)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
