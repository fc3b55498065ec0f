"""Which stored embedding belongs to which image: by its path under the data root, never by file name."""

from __future__ import annotations

import csv
import os
import posixpath
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from edgeproof_configs.errors import DataError
from edgeproof_data.paths import some_of
from edgeproof_data.sets import ImageSet


def names_under(images: ImageSet, data_root: Path | None) -> list[str]:
    """Return each image's path relative to the data root, with `/`.

    Raises:
        DataError: the images lie outside the data root.
    """
    root = data_root if data_root is not None else images.root
    inside = relative_to(images.root, root)
    if inside is None:
        raise DataError(
            f"stored embeddings are found by the path under data.root; images lie outside: {images.root}",
            where=root,
            fix="set data.root to a folder that holds the images",
        )
    return [posixpath.normpath(f"{inside}/{path}") for path in images.paths]


def relative_to(path: Path, root: Path) -> str | None:
    """Return `path` relative to `root` with `/`, or None if it is not inside; links are followed."""
    for place in (os.path.abspath, os.path.realpath):
        inner, outer = Path(place(path)), Path(place(root))
        if inner.is_relative_to(outer):
            return inner.relative_to(outer).as_posix()
    return None


def read_index(path: Path, data_root: Path | None) -> list[str]:
    """Return the `path` column of a csv, relative to the data root; other columns are not looked at.

    Raises:
        DataError: there is no such file, it is not UTF-8 csv, has no `path` column, or a path is empty.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as handle:
            reader = csv.DictReader(handle)
            columns = reader.fieldnames or []
            if "path" not in columns:
                raise DataError(
                    f"the index has no column 'path'; it has {', '.join(columns) or 'none'}",
                    where=path,
                    fix="name the columns in the first line; 'path' is each image's path under data.root",
                )
            paths = [row["path"] for row in reader]
    except FileNotFoundError as error:
        raise DataError("there is no such index", where=path) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"the index is not a UTF-8 csv file: {error}", where=path) from error
    empty = [str(line) for line, value in enumerate(paths, start=2) if not value]
    if empty:
        raise DataError(f"{len(empty)} rows have no path, in line {some_of(empty)}", where=path)
    return [_normal(value, data_root) for value in paths]


def refuse_repeated(names: Sequence[str], where: object) -> None:
    """Refuse an index that has two embeddings for one image.

    Raises:
        DataError: with the count and examples.
    """
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise DataError(
            f"{len(repeated)} images have more than one stored embedding: {some_of(repeated)}",
            where=where,
            fix="keep one line for each image over all index files",
        )


def missing_error(missing: Sequence[str], total: int, where: object) -> DataError:
    """Return the error for images without a stored embedding."""
    return DataError(
        f"{len(missing)} of {total} images have no stored embedding: {some_of(missing)}",
        where=where,
        fix="compute the missing ones, or take these images out; paths are relative to data.root",
    )


def _normal(value: str, data_root: Path | None) -> str:
    if data_root is not None and posixpath.isabs(value):
        value = relative_to(Path(value), data_root) or value
    return posixpath.normpath(value)
