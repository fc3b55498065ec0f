"""Training images as squares of bytes, decoded once and kept in one memory-mapped file where they fit."""

from __future__ import annotations

import fcntl
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from edgeproof_configs.errors import DataError
from edgeproof_configs.files import atomic_open, digest_of, explain_os_errors
from edgeproof_configs.progress import progress
from edgeproof_data.objects import ObjectSet
from edgeproof_data.prefetch import in_order
from edgeproof_data.sets import ImageSet
from edgeproof_deploy.runtime.preprocess import ImageError, Preprocess, open_image

Bytes = NDArray[np.uint8]
LARGEST_FILE_BYTES = 2 << 30
VERSION = 1


class Squares:
    """Makes the square that a training image is cut from.

    The short side is resized as in evaluation. From the centre a square of `side` pixels is cut; where the
    resized image is smaller than that, its border is mirrored.

    Args:
        images: where the photos are.
        preprocess: of evaluation.
        side: of the squares, at least `preprocess.image_size`.
    """

    def __init__(self, images: ImageSet, preprocess: Preprocess, side: int):
        if side < preprocess.image_size:
            raise ValueError(f"side must be at least {preprocess.image_size}, got {side}")
        self.images, self.side = images, side
        # The margin is the same on all sides, so that the middle is what evaluation sees.
        margin = (min(side, preprocess.resize_size) - preprocess.image_size) // 2
        self._cut = replace(preprocess, image_size=preprocess.image_size + 2 * margin)
        before = (side - self._cut.image_size) // 2
        self._mirrored = (before, side - self._cut.image_size - before)

    def __call__(self, index: int) -> Bytes:
        """Return one square, (3, side, side).

        Raises:
            DataError: the image cannot be read.
        """
        pixels = read_pixels(self._cut, self.images, index)
        if any(self._mirrored):
            pixels = np.pad(pixels, (self._mirrored, self._mirrored, (0, 0)), mode="reflect")
        return np.ascontiguousarray(pixels.transpose(2, 0, 1))

    def describe(self) -> str:
        """Return what the pixels depend on, beside the photos."""
        return repr((self._cut, self._mirrored))

    def many(self, indices: NDArray[np.int64]) -> Bytes:
        """Return squares (n, 3, side, side)."""
        return np.stack([self(index) for index in indices.tolist()])


def read_pixels(preprocess: Preprocess, images: ImageSet, index: int) -> Bytes:
    """Return one image (H, W, 3), or the shown views of one object (V, H, W, 3), as the runtime sees them.

    Raises:
        DataError: it cannot be read.
    """
    if isinstance(images, ObjectSet):
        files = [images.root / path for path in images.shown_views(index)]
        return np.stack([_pixels(preprocess, file) for file in files])
    return _pixels(preprocess, images.file(index))


def normalised(preprocess: Preprocess, pixels: Bytes) -> NDArray[np.float32]:
    """Return pixels (..., H, W, 3) as a network takes them, (..., 3, H, W); leading axes stay as they are."""
    planes = preprocess.normalise(pixels.reshape(-1, *pixels.shape[-3:]))
    return planes.reshape(*pixels.shape[:-3], *planes.shape[1:])


def _pixels(preprocess: Preprocess, file: Path) -> Bytes:
    try:
        return preprocess.pixels(open_image(file))
    except ImageError as error:
        raise DataError(
            f"an image cannot be used: {error.reason}", where=error.name, fix="run `edgeproof data check`"
        ) from error


class StoredSquares:
    """The same squares, from a memory-mapped file."""

    def __init__(self, file: Path):
        self._squares: Bytes = np.asarray(np.load(file, mmap_mode="r", allow_pickle=False))

    def many(self, indices: NDArray[np.int64]) -> Bytes:
        """Return squares (n, 3, side, side)."""
        return self._squares[indices]


def open_squares(squares: Squares, folder: Path | None, workers: int) -> Squares | StoredSquares:
    """Return stored squares, made now if need be; the given ones where there is no folder or they do not fit.

    Processes that need the same file wait for the first one to make it.

    Args:
        squares: what to store.
        folder: where; None decodes each time.
        workers: threads that decode.

    Raises:
        DataError: an image cannot be read.
        EdgeproofError: the folder cannot be written or the disk is full.
    """
    images, side = squares.images, squares.side
    if folder is None or len(images) * 3 * side * side > LARGEST_FILE_BYTES:
        return squares
    stats = [squares.images.file(index).stat() for index in range(len(images))]
    known = [VERSION, str(images.root), images.paths, [(stat.st_size, stat.st_mtime_ns) for stat in stats]]
    file = folder / f"pixels-{digest_of([*known, squares.describe()])[:16]}.npy"
    with explain_os_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".pixels.lock").open("a")
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not file.exists():
            _write(file, squares, workers)
    return StoredSquares(file)


def _write(file: Path, squares: Squares, workers: int) -> None:
    count, side = len(squares.images), squares.side
    header = {"descr": "|u1", "fortran_order": False, "shape": (count, 3, side, side)}
    with progress("decode", count, "images") as shown, atomic_open(file) as handle:
        npy.write_array_header_1_0(handle, header)
        for pixels in in_order(squares, range(count), workers, ahead=16):
            handle.write(pixels.tobytes())
            shown.advance()
