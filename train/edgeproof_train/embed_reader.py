"""Images as a teacher's input, decoded in worker processes, each with the hash of the file it came from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from edgeproof_configs.errors import DataError
from edgeproof_data.paths import counted, some_of
from edgeproof_data.sets import ImageSet
from edgeproof_deploy.runtime.preprocess import ImageError, Preprocess, open_image

PREFETCHED_BATCHES = 4


class ReadBatch(NamedTuple):
    """Positions (n,), images (n, 3, H, W) float32, content sha256s if known; and what could not be read."""

    indices: np.ndarray
    image: Tensor
    hashes: list[str] | None
    unreadable: list[str]


class Item(NamedTuple):
    """One image: its position, pixels (H, W, 3) uint8 and content sha256; or why it cannot be read."""

    position: int
    pixels: np.ndarray | None
    content_sha256: str
    reason: str


class ImageFiles(Dataset[Item]):
    """The images at some positions of a set, each file read once."""

    def __init__(self, images: ImageSet, indices: np.ndarray, preprocess: Preprocess):
        self.images, self.indices, self.preprocess = images, indices, preprocess

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, place: int) -> Item:
        position = int(self.indices[place])
        try:
            data = self.images.read(position)
            pixels = self.preprocess.pixels(open_image(data))
        except (ImageError, DataError, OSError) as error:
            # An exception does not survive the way out of a worker process unchanged.
            reason = {ImageError: "reason", DataError: "what"}.get(type(error), "strerror")
            reason = str(getattr(error, reason))
            return Item(position, None, "", f"{self.images.paths[position]} {reason}")
        return Item(position, pixels, hashlib.sha256(data).hexdigest(), "")

    def collate(self, items: Sequence[Item]) -> ReadBatch:
        """Return a batch, normalised here so that the process of the teacher does nothing but run it."""
        read = [item for item in items if item.pixels is not None]
        pixels = [item.pixels for item in read if item.pixels is not None]
        size = self.preprocess.image_size
        stacked = np.stack(pixels) if pixels else np.zeros((0, size, size, 3), np.uint8)
        return ReadBatch(
            np.array([item.position for item in read], dtype=np.int64),
            torch.from_numpy(self.preprocess.normalise(stacked)),
            [item.content_sha256 for item in read],
            [item.reason for item in items if item.pixels is None],
        )


def read_batches(
    images: ImageSet,
    indices: np.ndarray,
    preprocess: Preprocess,
    batch_size: int,
    workers: int,
    pinned: bool = False,
) -> Iterator[ReadBatch]:
    """Yield the images at some positions, in order, in batches.

    Raises:
        DataError: an image cannot be read.
    """
    files = ImageFiles(images, indices, preprocess)
    loader: DataLoader[Item] = DataLoader(
        files,
        batch_size=batch_size,
        num_workers=workers,
        collate_fn=files.collate,
        pin_memory=pinned,
        prefetch_factor=PREFETCHED_BATCHES if workers else None,
    )
    for batch in loader:
        if batch.unreadable:
            raise DataError(
                f"{counted(len(batch.unreadable), 'image')} cannot be read: {some_of(batch.unreadable)}",
                where=images.root,
                fix="run `edgeproof data check` to list them all",
            )
        yield batch
