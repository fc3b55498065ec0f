"""What a model of views is asked about: folders with the views of an object, or single photos."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from edgeproof_deploy.runtime.preprocess import ImageError, Preprocess, Source
from edgeproof_deploy.runtime.sources import SUFFIXES, Batch, Named, image_files, in_threads

Views = tuple[str, list[Named]]
"""Name of an object, and its views with their names."""


def named_objects(objects: object, broken: list[ImageError] | None = None) -> list[Views]:
    """Return every object with its views.

    Args:
        objects: one object or a sequence of them. An object is a folder with its views, a sequence of views,
            or an array of them (V, H, W, 3); a single image, in any form, is an object with one view.
        broken: where to put folders without an image; None raises the first.

    Raises:
        ImageError: a folder holds no image file itself.
    """
    alone = isinstance(objects, (str, Path, bytes, Image.Image, np.ndarray))
    found: list[Views] = []
    for number, one in enumerate([objects] if alone else objects):  # pyright: ignore[reportArgumentType]
        try:
            found.append(_named_object(one, number))
        except ImageError as error:
            if broken is None:
                raise
            broken.append(error)
    return found


def _named_object(one: object, number: int) -> Views:
    if isinstance(one, (str, Path)):
        if not Path(one).is_dir():
            return str(one), [(str(one), one)]
        return str(one), [(str(file), file) for file in views_in(Path(one))]
    name = f"object {number}"
    if isinstance(one, (list, tuple)) or (isinstance(one, np.ndarray) and one.ndim == 4):
        views: Sequence[Source] = list(one)
        if not len(views):
            raise ImageError(name, "has no view")
        files = [str(view) for view in views if isinstance(view, (str, Path))]
        if len(files) == len(views):
            name = files[0] if len(files) == 1 else f"{files[0]} and {len(files) - 1} more"
        return name, [
            (str(view) if isinstance(view, (str, Path)) else f"view {place} of {name}", view)
            for place, view in enumerate(views)
        ]
    source: Source = one  # pyright: ignore[reportAssignmentType]
    return name, [(f"view 0 of {name}", source)]


def views_in(folder: Path) -> list[Path]:
    """Return the image files in a folder, none of those in folders below it, sorted.

    Raises:
        ImageError: there are none; says so if there are some below it.
    """
    found = sorted(
        file for file in folder.iterdir() if file.name.lower().endswith(SUFFIXES) and file.is_file()
    )
    if found:
        return found
    places = {file.parent for file in image_files(folder)}
    raise ImageError(
        str(folder),
        f"holds no image itself, and {len(places)} folders below it do, such as {min(places)}:"
        " a folder is one object, so name each of those",
    )


def prepared_objects(
    named: Sequence[Views],
    preprocess: Preprocess,
    *,
    batch_size: int,
    workers: int,
    broken: list[ImageError] | None,
) -> Iterator[Batch]:
    """Yield names and inputs, float32 (B, V, 3, H, W), in the order of the objects.

    Objects of one batch have as many views each; a view that cannot be read is left out.

    Args:
        named: objects with their views.
        preprocess: from image to input.
        batch_size: most objects of a batch.
        workers: threads that decode and resize ahead; 0 does it in the caller's.
        broken: where to put views that cannot be read, and objects none of whose views can be; None raises
            the first.

    Raises:
        ImageError: a view cannot be read.
    """
    views = [view for _, of_object in named for view in of_object]
    ready = in_threads(views, preprocess, workers, max(2 * batch_size, workers))
    names: list[str] = []
    inputs: list[np.ndarray] = []
    for name, of_object in named:
        seen: list[np.ndarray] = []
        for _, result in zip(of_object, ready):
            if not isinstance(result[1], ImageError):
                seen.append(result[1])
            elif broken is None:
                raise result[1]
            else:
                broken.append(result[1])
        if not seen:
            if len(of_object) > 1 and broken is not None:
                broken.append(ImageError(name, "none of its views can be read"))
            continue
        if names and (len(names) == batch_size or len(inputs[0]) != len(seen)):
            yield names, np.stack(inputs)
            names, inputs = [], []
        names.append(name)
        inputs.append(np.stack(seen))
    if names:
        yield names, np.stack(inputs)
