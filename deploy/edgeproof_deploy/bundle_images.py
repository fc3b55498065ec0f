"""The images that a bundle is verified on: the user's, or those that it carries."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from edgeproof_configs.errors import DataError
from edgeproof_configs.progress import progress
from edgeproof_deploy.decisions import Vocabulary
from edgeproof_deploy.runtime.head import ClassifierHead, Head, ZeroShotHead
from edgeproof_deploy.runtime.preprocess import ImageError, Preprocess, open_image
from edgeproof_deploy.runtime.session import Session

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm")
BATCH = 16
NO_LABEL = -1


@dataclass
class Embedded:
    """What sessions gave for the images of a folder.

    Attributes:
        files: of the images that could be read.
        rows: embeddings (N, D) by the session's name.
        first: the first few images as the network's input, float32 (M, 3, H, W).
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
        folder: of the images.
        preprocess: of the bundle.
        sessions: by name.
        keep: how many inputs are kept.

    Raises:
        DataError: it holds no image that can be read.
    """
    found, rows = Embedded(), {name: [] for name in sessions}
    files = images_in(folder)
    with progress("verify", len(files), "images") as shown:
        for names, inputs in _batches(files, preprocess, found.broken):
            found.files += names
            if len(found.first) < keep:
                found.first = inputs if not len(found.first) else np.concatenate([found.first, inputs])[:keep]
            for name, session in sessions.items():
                rows[name].append(session.run({"image": inputs})["embedding"])
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


def vocabulary_of(head: Head, files: list[Path], folder: Path) -> Vocabulary:
    """Return the bundle's labels and what is true of the images.

    An image's label is the name of the folder that it lies in, where the bundle has that label; `_` may
    stand for a blank.

    Args:
        head: of the bundle.
        files: of the images.
        folder: that they were found in.
    """
    rows = {label: row for row, label in enumerate(head.labels)}
    rows |= {label.replace(" ", "_"): row for label, row in rows.items() if " " in label}
    labels = np.array([rows.get(file.parent.name, NO_LABEL) for file in files], np.int64)
    paths = tuple(file.relative_to(folder).as_posix() for file in files)
    if isinstance(head, ZeroShotHead):
        return Vocabulary(head.labels, head.weight, labels, paths)
    if isinstance(head, ClassifierHead):
        return Vocabulary(head.labels, None, labels, paths)
    return Vocabulary(head.labels, None, labels, paths, head=head)
