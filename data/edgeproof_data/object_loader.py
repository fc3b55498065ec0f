"""Batches of objects with several views each for training, and of photos between them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from edgeproof_configs.errors import UsageError
from edgeproof_configs.schema import AugmentConfig, SamplerConfig
from edgeproof_data.draws import SHOWN, uniforms
from edgeproof_data.loader import Batch
from edgeproof_data.object_sampling import WHERE, ObjectSampling, members_to_pair
from edgeproof_data.objects import ObjectSet
from edgeproof_data.paths import some_of
from edgeproof_data.pixels import Squares, normalised, open_squares
from edgeproof_data.prefetch import in_order
from edgeproof_data.sampling import Balance, turns
from edgeproof_data.sets import NO_LABEL, ImageSet
from edgeproof_data.transforms import DRAWS, Augment
from edgeproof_deploy.runtime.preprocess import Preprocess

Positions = NDArray[np.int64]
PHOTO_SHIFT = 1 << 20
"""More visits than an object has in an epoch."""


class Step(NamedTuple):
    """What one step shows: visits (n,) of objects, or of photos."""

    visits: Positions
    of_photos: bool


class ObjectLoader:
    """Shuffled, augmented batches (B, V, 3, H, W) of objects, V random views of each.

    Like those of `TrainLoader` they depend on the seed, the epoch and the step alone. Each view is changed in
    its own way. Where there are photos, each step on N objects is followed by `photo_steps` steps on photos,
    (B, 1, 3, H, W) with as many photos as the other step has views and no label; photos come in turns that go
    on from epoch to epoch, and their positions in a batch go on after those of the objects: photo j is
    `len(objects) + j`.

    Args:
        objects: what to train on.
        preprocess: of evaluation; gives size, interpolation and normalisation.
        augment: random changes of a view.
        sampler: what a step shows.
        batch_size: visits of objects a step in this process.
        seed: of shuffling, of which views are shown, and of augmentation.
        workers: threads that prepare batches ahead; 0 prepares each when it is asked for.
        balance: of the random order of objects; see `sampling`.
        photos: images without labels.
        rank: number of this process.
        world: number of processes.
        pixel_folder: where decoded images are kept if they fit into 2 GiB; None decodes each time.

    Raises:
        UsageError: an object has fewer views than a step shows, or see `ObjectSampling`.
        DataError: an image cannot be read.
        EdgeproofError: the pixel folder cannot be written or its disk is full.
    """

    def __init__(
        self,
        objects: ObjectSet,
        preprocess: Preprocess,
        augment: AugmentConfig,
        *,
        sampler: SamplerConfig,
        batch_size: int,
        seed: int,
        workers: int,
        balance: Balance = "none",
        photos: ImageSet | None = None,
        rank: int = 0,
        world: int = 1,
        pixel_folder: Path | None = None,
    ):
        if not 0 <= rank < world:
            raise ValueError(f"rank must be 0 to {world - 1}, got {rank}")
        if len(objects) < world:
            raise ValueError(f"cannot deal {len(objects)} objects to {world} processes")
        check_views(objects, sampler.views)
        self.objects, self.photos, self.preprocess = objects, photos, preprocess
        self.seed, self.workers, self.rank, self.world = seed, workers, rank, world
        self.shown = sampler.views
        self.photo_steps = (sampler.photo_steps or 1) if photos is not None else 0
        self.photo_batch = batch_size * sampler.views
        self._sampling = ObjectSampling(objects, sampler, batch_size, seed, world, balance)
        self._augment = Augment(augment, preprocess)
        self._rows = objects.view_rows()
        self._most = max(len(rows) for rows in self._rows)
        side = self._augment.side or preprocess.resize_size
        threads = max(workers, 1)
        views = Squares(objects.view_images(), preprocess, side)
        self._views = open_squares(views, pixel_folder, threads)
        self._photos = self._views
        if photos is not None:
            self._photos = open_squares(Squares(photos, preprocess, side), pixel_folder, threads)

    @property
    def steps_per_epoch(self) -> int:
        """Batches an epoch, of objects and of photos, the same for every process."""
        return self._sampling.steps * (1 + self.photo_steps)

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch, from a step on.

        Args:
            epoch: from 0.
            start_step: how many batches to leave out.
        """
        steps = self._steps(epoch)[start_step:]
        return in_order(lambda step: self._batch(step, epoch), steps, self.workers)

    def _steps(self, epoch: int) -> list[Step]:
        objects = self._sampling.epoch(epoch, self.rank)
        if self.photos is None:
            return [Step(visits, of_photos=False) for visits in objects]
        count, size = len(self.photos), self.photo_batch * self.world
        total = len(objects) * self.photo_steps * size
        photos = turns(self.seed, count, np.arange(count), epoch * total, (epoch + 1) * total)
        shares = iter(photos.reshape(-1, size)[:, self.rank :: self.world])
        found: list[Step] = []
        for visits in objects:
            found.append(Step(visits, of_photos=False))
            found += [Step(next(shares), of_photos=True) for _ in range(self.photo_steps)]
        return found

    def _batch(self, step: Step, epoch: int) -> Batch:
        return self._of_photos(step.visits, epoch) if step.of_photos else self._of_objects(step.visits, epoch)

    def _of_objects(self, visits: Positions, epoch: int) -> Batch:
        indices = visits % len(self.objects)
        views = np.stack([self._drawn(visit, epoch) for visit in visits.tolist()])
        rows = np.stack([self._rows[index][chosen] for index, chosen in zip(indices, views, strict=True)])
        draws = uniforms(self.seed, epoch, (visits[:, None] * self._most + views).ravel(), DRAWS)
        pixels = self._augment(self._views.many(rows.ravel()), draws)
        return self._made(pixels, views, self.objects.labels[indices], indices)

    def _of_photos(self, visits: Positions, epoch: int) -> Batch:
        assert self.photos is not None
        indices = visits % len(self.photos)
        # The draws of photos lie behind those of all objects.
        after = len(self.objects) * self._most * PHOTO_SHIFT
        pixels = self._augment(self._photos.many(indices), uniforms(self.seed, epoch, visits + after, DRAWS))
        views, labels = np.zeros((len(visits), 1), np.int64), np.full(len(visits), NO_LABEL, np.int64)
        return self._made(pixels, views, labels, indices + len(self.objects))

    def _drawn(self, visit: int, epoch: int) -> Positions:
        """Return which views (V,) of its object a visit shows, in their order."""
        count = len(self._rows[visit % len(self.objects)])
        keys = uniforms(self.seed, epoch, visit * self._most + np.arange(count), 1, first=SHOWN)[:, 0]
        return np.sort(np.argsort(keys, kind="stable")[: self.shown])

    def _made(
        self, pixels: NDArray[np.uint8], views: Positions, labels: Positions, indices: Positions
    ) -> Batch:
        planes = normalised(self.preprocess, pixels.transpose(0, 2, 3, 1))
        return {
            "image": torch.from_numpy(planes.reshape(*views.shape, *planes.shape[1:])),
            "label": torch.from_numpy(labels),
            "index": torch.from_numpy(indices),
            "views": torch.from_numpy(views),
        }


def check_sampler(objects: ImageSet, sampler: SamplerConfig | None) -> None:
    """Refuse what a sampler cannot show of training objects, before anything is computed for them.

    Raises:
        UsageError: an object has fewer views than a step shows, or see `ObjectSampling`.
    """
    if sampler is None or not isinstance(objects, ObjectSet):
        return
    check_views(objects, sampler.views)
    if sampler.balanced:
        members_to_pair(objects, sampler)


def check_views(objects: ObjectSet, shown: int) -> None:
    """Refuse objects that have fewer views than a step shows.

    Raises:
        UsageError: naming some of them.
    """
    counts = [len(files) for files in objects.views]
    few = [path for path, count in zip(objects.paths, counts, strict=True) if count < shown]
    if few:
        raise UsageError(
            f"a step shows {shown} views, and {len(few)} of {len(objects)} training objects have fewer:"
            f" {some_of(few)}",
            where=f"{WHERE}.views",
            fix=f"set it to {min(counts)} or less, or leave these objects out",
        )
