"""Batches of images for training and evaluation."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import NotRequired

from edgeproof_configs.schema import AugmentConfig
from edgeproof_data.draws import uniforms
from edgeproof_data.pixels import Squares, normalised, open_squares, read_pixels
from edgeproof_data.prefetch import in_order
from edgeproof_data.sampling import Balance, Sampling
from edgeproof_data.sets import ImageSet
from edgeproof_data.transforms import DRAWS, Augment
from edgeproof_data.views import view_draws
from edgeproof_deploy.runtime.preprocess import Preprocess


class Batch(TypedDict):
    """Normalised images (B, 3, H, W), or views of objects (B, V, 3, H, W), float32; labels and positions.

    Labels (-1: none) and positions in the set are int64 (B,).

    Where random views of single images are stored, `view` is the number of the one that all images are shown
    in. Of objects `views`, int64 (B, V), says which of an object's views these are.
    """

    image: Tensor
    label: Tensor
    index: Tensor
    view: NotRequired[int]
    views: NotRequired[Tensor]


class TrainLoader:
    """Shuffled, augmented batches.

    What a batch holds depends on `seed`, the epoch and the step alone: not on the number of workers, and not
    on whether the epoch was begun in the middle. The last, incomplete batch of an epoch is left out unless it
    is the only one. Under several processes the batches of a step are shares of what one process with a
    `world` times larger batch would get.

    Args:
        images: what to train on.
        preprocess: of evaluation; gives size, interpolation and normalisation.
        augment: random changes.
        batch_size: images a step in this process.
        seed: of shuffling and augmentation.
        workers: threads that prepare batches ahead; 0 prepares each when it is asked for.
        balance: `classes` shows every class equally often; see `sampling`.
        rank: number of this process.
        world: number of processes.
        pixel_folder: where decoded images are kept if they fit into 2 GiB; None decodes each time.
        views: show these many views of each image, one an epoch in turn, in place of ever new ones.

    Raises:
        UsageError: the images cannot be balanced.
        DataError: an image cannot be read.
        EdgeproofError: the pixel folder cannot be written or its disk is full.
    """

    def __init__(
        self,
        images: ImageSet,
        preprocess: Preprocess,
        augment: AugmentConfig,
        *,
        batch_size: int,
        seed: int,
        workers: int,
        balance: Balance = "none",
        rank: int = 0,
        world: int = 1,
        pixel_folder: Path | None = None,
        views: int | None = None,
    ):
        if not 0 <= rank < world:
            raise ValueError(f"rank must be 0 to {world - 1}, got {rank}")
        if batch_size < 1 or len(images) < world:
            raise ValueError(
                f"cannot make batches of {batch_size} for {world} processes of {len(images)} images"
            )
        self.images, self.preprocess, self.seed, self.workers = images, preprocess, seed, workers
        self.batch_size, self.rank, self.world = batch_size, rank, world
        self.views = views
        self._sampling = Sampling(images, seed, balance)
        self._augment = Augment(augment, preprocess)
        side = self._augment.side or preprocess.resize_size
        self._squares = open_squares(Squares(images, preprocess, side), pixel_folder, max(workers, 1))

    @property
    def steps_per_epoch(self) -> int:
        """Batches an epoch, the same for every process."""
        return max(1, len(self.images) // (self.batch_size * self.world))

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch, from a step on.

        Args:
            epoch: from 0.
            start_step: how many batches to leave out.
        """
        order = self._sampling.visits(epoch)
        size = self.batch_size * self.world
        chosen = [
            order[step * size : (step + 1) * size][self.rank :: self.world]
            for step in range(start_step, self.steps_per_epoch)
        ]
        return in_order(lambda visits: self._batch(visits, epoch), chosen, self.workers)

    def _batch(self, visits: NDArray[np.int64], epoch: int) -> Batch:
        indices = visits % len(self.images)
        view = epoch % self.views if self.views else None
        draws = uniforms(self.seed, epoch, visits, DRAWS) if view is None else view_draws(view, indices)
        pixels = self._augment(self._squares.many(indices), draws)
        batch = _as_batch(self.preprocess.normalise(pixels.transpose(0, 2, 3, 1)), self.images, indices)
        if view is not None:
            batch["view"] = view
        return batch


def eval_batches(
    images: ImageSet, preprocess: Preprocess, *, batch_size: int, workers: int = 0
) -> Iterator[Batch]:
    """Yield all images in order, preprocessed to the bit as the runtime does it; of objects (B, V, 3, H, W).

    Args:
        images: what to evaluate on; of an `ObjectSet` the views that it shows.
        preprocess: of the model.
        batch_size: images a batch; the last one may be smaller.
        workers: threads that decode ahead.

    Raises:
        DataError: an image cannot be read.
    """

    def batch(indices: NDArray[np.int64]) -> Batch:
        pixels = np.stack([read_pixels(preprocess, images, index) for index in indices.tolist()])
        return _as_batch(normalised(preprocess, pixels), images, indices)

    starts = range(0, len(images), batch_size)
    return in_order(
        batch, [np.arange(start, min(start + batch_size, len(images))) for start in starts], workers
    )


def _as_batch(planes: NDArray[np.float32], images: ImageSet, indices: NDArray[np.int64]) -> Batch:
    return {
        "image": torch.from_numpy(planes),
        "label": torch.from_numpy(images.labels[indices]),
        "index": torch.from_numpy(indices.astype(np.int64)),
    }
