"""Random views of training images that can be made again by number, so that outputs can be stored for them.

The view of an image is a function of its number, the image's position and the augmentation, and of no run's
seed: what one run has stored serves every other that trains on the same views.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeproof_configs.files import digest_of
from edgeproof_configs.schema import AugmentConfig
from edgeproof_data.draws import uniforms
from edgeproof_data.pixels import Squares, open_squares
from edgeproof_data.sets import ImageSet
from edgeproof_data.transforms import DRAWS, Augment
from edgeproof_deploy.runtime.preprocess import Preprocess

VIEW_SEED = 0


def view_draws(view: int, indices: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the random numbers (n, DRAWS) of a view of the images at some positions."""
    return uniforms(VIEW_SEED, view, indices, DRAWS)


class View:
    """One random view of every image of a set.

    Args:
        images: of the training set.
        preprocess: of the student.
        augment: how views are made.
        number: which view, from 0.
        workers: threads that decode.
    """

    def __init__(
        self, images: ImageSet, preprocess: Preprocess, augment: AugmentConfig, number: int, workers: int = 1
    ):
        self.preprocess, self.number = preprocess, number
        # A change that came later is named only where it is on: views stored before it stay valid.
        changes = augment.model_dump(exclude=None if augment.pad_pixels else {"pad_pixels"})
        self._settings: dict[str, Any] = {"augment": changes, "student": preprocess.to_dict()}
        self._augment = Augment(augment, preprocess)
        side = self._augment.side or preprocess.resize_size
        self._squares = open_squares(Squares(images, preprocess, side), None, max(workers, 1))

    def identity(self) -> str:
        """Return what tells this view from all others, as a part of a cache's key."""
        return f"view {self.number} of {digest_of(self._settings)[:16]}"

    def batches(self, indices: NDArray[np.int64], size: int) -> Iterator[tuple[NDArray[np.int64], Any]]:
        """Yield positions (n,) and images (n, 3, H, W) float32 as the student will see them, in order."""
        for start in range(0, len(indices), size):
            chosen = indices[start : start + size]
            pixels = self._augment(self._squares.many(chosen), view_draws(self.number, chosen))
            yield chosen, self.preprocess.normalise(pixels.transpose(0, 2, 3, 1))
