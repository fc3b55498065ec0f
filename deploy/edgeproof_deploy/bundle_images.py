"""The images, or objects with their views, of a user that a bundle is verified on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from edgeproof_configs.errors import DataError
from edgeproof_configs.progress import progress
from edgeproof_deploy.decisions import Vocabulary
from edgeproof_deploy.runtime.head import ClassifierHead, Head, ZeroShotHead
from edgeproof_deploy.runtime.objects import named_objects, prepared_objects
from edgeproof_deploy.runtime.preprocess import ImageError, Preprocess, open_image
from edgeproof_deploy.runtime.session import Session

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm")
BATCH = 16
NO_LABEL = -1


@dataclass
class Embedded:
    """What sessions gave for the images of a folder, or for the objects in it.

    Attributes:
        files: of the images that could be read; of objects their folders.
        rows: embeddings (N, D) by the session's name.
        first: the first few images as the network's input, float32 (M, 3, H, W); of objects (M, V, 3, H, W),
            all with as many views as the first.
        broken: of the other images, why they could not be read.
    """

    files: list[Path] = field(default_factory=list)
    rows: dict[str, np.ndarray] = field(default_factory=dict)
    first: np.ndarray = field(default_factory=lambda: np.empty((0, 0), np.float32))
    broken: list[str] = field(default_factory=list)


def images_in(folder: Path) -> list[Path]:
    """Return every image file below a folder, sorted.

    Raises:
        DataError: it is no folder, or holds none.
    """
    if not folder.is_dir():
        raise DataError("no such folder of images", where=folder, fix="name a folder after --images")
    found = sorted(file for file in folder.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
    if not found:
        raise DataError(f"holds no image ({', '.join(SUFFIXES)})", where=folder)
    return found


def embed_folder(
    folder: Path, preprocess: Preprocess, sessions: Mapping[str, Session], keep: int = 9
) -> Embedded:
    """Run every session over the images of a folder; each image is decoded once.

    Args:
        folder: of the images. Where the bundle takes views each folder in it, at any depth, that holds images
            itself is an object.
        preprocess: of the bundle.
        sessions: by name.
        keep: how many inputs are kept.

    Raises:
        DataError: it holds no image that can be read.
    """
    found, rows = Embedded(), {name: [] for name in sessions}
    files, batches, what = images_in(folder), _batches, "images"
    if preprocess.views is not None:
        files, batches, what = sorted({file.parent for file in files}), _batches_of_objects, "objects"
    with progress("verify", len(files), what) as shown:
        for names, inputs in batches(files, preprocess, found.broken):
            found.files += names
            if not len(found.first):
                found.first = inputs[:keep]
            elif len(found.first) < keep and inputs.shape[1:] == found.first.shape[1:]:
                found.first = np.concatenate([found.first, inputs])[:keep]
            for name, session in sessions.items():
                rows[name].append(session.run({session.input_name: inputs})["embedding"])
            shown.advance(len(names))
    if not found.files:
        raise DataError(f"no image can be read: {found.broken[0]}", where=folder)
    found.rows = {name: np.concatenate(parts).astype(np.float32) for name, parts in rows.items()}
    return found


def _batches(
    files: list[Path], preprocess: Preprocess, broken: list[str]
) -> Iterator[tuple[list[Path], np.ndarray]]:
    for start in range(0, len(files), BATCH):
        names, inputs = [], []
        for file in files[start : start + BATCH]:
            try:
                inputs.append(preprocess(open_image(file)))
            except ImageError as error:
                broken.append(str(error))
                continue
            names.append(file)
        if names:
            yield names, np.stack(inputs)


def _batches_of_objects(
    folders: list[Path], preprocess: Preprocess, broken: list[str]
) -> Iterator[tuple[list[Path], np.ndarray]]:
    size = max(1, BATCH // (preprocess.views or 1))
    unread: list[ImageError] = []
    named = named_objects([str(folder) for folder in folders], unread)
    batches = prepared_objects(named, preprocess, batch_size=size, workers=0, broken=unread)
    for names, inputs in batches:
        yield [Path(name) for name in names], inputs
    broken += [str(error) for error in unread]


def vocabulary_of(head: Head, files: list[Path], folder: Path, *, of_objects: bool = False) -> Vocabulary:
    """Return the bundle's labels and what is true of the images.

    The label of an image, or of an object, is the name of the folder that it lies in, where the bundle has
    that label; `_` may stand for a blank.

    Args:
        head: of the bundle.
        files: of the images, or folders of the objects.
        folder: that they were found in.
        of_objects: whether they are objects.
    """
    rows = {label: row for row, label in enumerate(head.labels)}
    rows |= {label.replace(" ", "_"): row for label, row in rows.items() if " " in label}
    labels = np.array([rows.get(file.parent.name, NO_LABEL) for file in files], np.int64)
    paths = tuple(file.relative_to(folder).as_posix() for file in files)
    if isinstance(head, ZeroShotHead):
        return Vocabulary(head.labels, head.weight, labels, paths, of_objects=of_objects)
    if isinstance(head, ClassifierHead):
        return Vocabulary(head.labels, None, labels, paths)
    return Vocabulary(head.labels, None, labels, paths, head=head, of_objects=of_objects)
