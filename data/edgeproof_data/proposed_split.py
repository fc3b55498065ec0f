"""The proposed splits of generalised zero-shot learning (arXiv 1707.00600) as a table that a recipe can use.

They come as two MATLAB files a data set: `res101.mat` with `image_files` and `labels`, `att_splits.mat` with
`allclasses_names` and, counted from 1, `trainval_loc`, `test_seen_loc` and `test_unseen_loc`.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from edgeproof_configs.errors import DataError
from edgeproof_data.paths import counted, some_of
from edgeproof_data.prompts import clean_name
from edgeproof_data.sets import SplitName
from edgeproof_data.split_table import Entry

FILES = {
    "res101.mat": ("image_files", "labels"),
    "att_splits.mat": ("allclasses_names", "trainval_loc", "test_seen_loc", "test_unseen_loc"),
}
PARTS: dict[str, SplitName] = {"trainval_loc": "train", "test_seen_loc": "test", "test_unseen_loc": "test"}


def read_proposed(folder: Path, root: Path) -> tuple[list[Entry], list[str]]:
    """Return the images of the proposed split, and the names of the classes that only test has.

    Args:
        folder: with the two files.
        root: of the photos; a stored path is looked for by its last parts below it.

    Raises:
        DataError: a file or an array is missing, images are not there, or a class is seen and unseen.
    """
    arrays: dict[str, np.ndarray] = {}
    for name, wanted in FILES.items():
        arrays |= read_mat(folder / name, wanted)
    names = [class_name(text) for text in texts(arrays["allclasses_names"])]
    labels = arrays["labels"].reshape(-1).astype(np.int64) - 1
    stored = texts(arrays["image_files"])
    if len(stored) != len(labels) or not 0 <= labels.min() <= labels.max() < len(names):
        raise DataError(
            f"{len(stored)} images, {len(labels)} labels, {len(names)} classes do not fit", where=folder
        )
    entries: list[Entry] = []
    absent: list[str] = []
    for key, part in PARTS.items():
        for place in (arrays[key].reshape(-1).astype(np.int64) - 1).tolist():
            found = below(root, stored[place])
            if found is None:
                absent.append(stored[place])
            else:
                entries.append(Entry(found, part, names[labels[place]]))
    if absent:
        raise DataError(
            f"{counted(len(absent), 'image')} of the split not found: {some_of(absent)}",
            where=root,
            fix="name the folder that holds the class folders",
        )
    unseen = {names[labels[place - 1]] for place in arrays["test_unseen_loc"].reshape(-1).astype(np.int64)}
    both = sorted(unseen & {entry.label for entry in entries if entry.part == "train"})
    if both:
        raise DataError(f"classes that are trained on and unseen: {some_of(both)}", where=folder)
    return entries, sorted(unseen)


def read_mat(file: Path, wanted: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Return some arrays of a MATLAB file.

    Raises:
        DataError: it cannot be read, or lacks one.
    """
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        found: dict[str, Any] = loadmat(file, variable_names=list(wanted))
    except (OSError, ValueError, TypeError, NotImplementedError, MatReadError) as error:
        raise DataError(
            f"no MATLAB file: {error}", where=file, fix="name the folder with res101.mat and att_splits.mat"
        ) from error
    lacking = [name for name in wanted if name not in found]
    if lacking:
        raise DataError(f"no array {' and '.join(lacking)}", where=file)
    return {name: np.asarray(found[name]) for name in wanted}


def texts(cells: np.ndarray) -> list[str]:
    """Return the texts of a column of cells."""
    return [str(np.asarray(cell).reshape(-1)[0]) for cell in cells.reshape(-1)]


def class_name(text: str) -> str:
    """Return a class in words: `grizzly+bear` and `001.Black_footed_Albatross` without signs and number."""
    return clean_name(re.sub(r"^\d+\.", "", text).replace("+", " "))


def below(root: Path, stored: str) -> str | None:
    """Return the path below a root that a stored path ends with; None where there is no such file."""
    parts = PurePosixPath(stored.replace("\\", "/")).parts
    for start in range(len(parts)):
        path = "/".join(part for part in parts[start:] if part != "/")
        if (root / path).is_file():
            return path
    return None
