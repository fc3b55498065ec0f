"""What a prediction is asked for: files, folders, arrays, opened images, one or many, prepared in batches."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

from edgeproof_deploy.runtime.preprocess import ImageError, Preprocess, Source, open_image

Images = Source | Sequence[Source | Sequence[Source]]
"""What is asked about: an image, or several; where a model looks at views, a sequence within is an object."""
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".pbm")

Named = tuple[str, Source]
Prepared = tuple[str, "np.ndarray | ImageError"]
Batch = tuple[list[str], np.ndarray]


def named_sources(images: Images, broken: list[ImageError] | None = None) -> list[Named]:
    """Return every single image with its name; folders become the image files in them.

    Args:
        images: one image or a sequence of them: path of a file or of a folder, bytes of a file, opened image,
            uint8 array (H, W, 3) RGB or (H, W) grey, or an array of several, (N, H, W, 3).
        broken: where to put folders without an image; None raises the first.

    Raises:
        ImageError: a folder holds no image file, or one of the sequence is a sequence itself.
    """
    alone = isinstance(images, (str, Path, bytes, Image.Image))
    alone = alone or (isinstance(images, np.ndarray) and images.ndim != 4)
    found: list[Named] = []
    for number, source in enumerate([images] if alone else images):  # pyright: ignore[reportArgumentType]
        if isinstance(source, (list, tuple)):
            raise ImageError(f"image {number}", "is a sequence of views, and this model looks at one image")
        if not isinstance(source, (str, Path)):
            found.append((f"image {number}", source))
        elif Path(source).is_dir():
            try:
                found += [(str(file), file) for file in image_files(Path(source))]
            except ImageError as error:
                if broken is None:
                    raise
                broken.append(error)
        else:
            found.append((str(source), source))
    return found


def image_files(folder: Path) -> list[Path]:
    """Return the image files in a folder and those below it, by their suffix, sorted; links are not followed.

    Raises:
        ImageError: there are none.
    """
    found = [
        Path(place, name)
        for place, _, names in os.walk(folder)
        for name in names
        if name.lower().endswith(SUFFIXES)
    ]
    if not found:
        raise ImageError(str(folder), f"holds no image file ({', '.join(SUFFIXES)})")
    return sorted(found)


def prepared_batches(
    named: Sequence[Named],
    preprocess: Preprocess,
    *,
    batch_size: int,
    workers: int,
    broken: list[ImageError] | None,
) -> Iterator[Batch]:
    """Yield names and inputs, float32 (B, 3, H, W), in the order of the images.

    Args:
        named: images with their names.
        preprocess: from image to input.
        batch_size: images of a batch; the last one may have fewer.
        workers: threads that decode and resize ahead, at most two batches; 0 does it in the caller's.
        broken: where to put images that cannot be read, which are left out; None raises the first.

    Raises:
        ImageError: an image cannot be read.
    """
    names: list[str] = []
    inputs: list[np.ndarray] = []
    ahead = max(2 * batch_size, workers)
    for name, result in in_threads(named, preprocess, workers, ahead):
        if isinstance(result, ImageError):
            if broken is None:
                raise result
            broken.append(result)
            continue
        names.append(name)
        inputs.append(result)
        if len(names) == batch_size:
            yield names, np.stack(inputs)
            names, inputs = [], []
    if names:
        yield names, np.stack(inputs)


def in_threads(
    named: Sequence[Named], preprocess: Preprocess, workers: int, ahead: int
) -> Iterator[Prepared]:
    """Yield each image as input, or why it cannot be, in order; `ahead` of them are prepared beforehand."""
    if not workers:
        yield from (_prepare(one, preprocess) for one in named)
        return
    from concurrent.futures import ThreadPoolExecutor

    waiting = iter(named)
    with ThreadPoolExecutor(workers) as pool:
        queue = [pool.submit(_prepare, one, preprocess) for one in islice(waiting, ahead)]
        try:
            while queue:
                result = queue.pop(0).result()
                queue += [pool.submit(_prepare, one, preprocess) for one in islice(waiting, 1)]
                yield result
        finally:
            for task in queue:
                task.cancel()


def _prepare(one: Named, preprocess: Preprocess) -> Prepared:
    name, source = one
    try:
        return name, preprocess(open_image(source))
    except ImageError as error:
        return name, error
