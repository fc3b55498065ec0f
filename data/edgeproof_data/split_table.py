"""A table `path,part,label` that says which images are for training, validation and test."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from edgeproof_configs.errors import DataError
from edgeproof_configs.files import write_text
from edgeproof_data.paths import counted, some_of
from edgeproof_data.prompts import clean_name
from edgeproof_data.sets import SPLITS, SplitName

COLUMNS = ("path", "part", "label")


class Entry(NamedTuple):
    """An image, relative to the data's root, the part it is for, and its class; empty where it has none."""

    path: str
    part: SplitName
    label: str


def write_split(file: Path, entries: Iterable[Entry]) -> None:
    """Write a table."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows([COLUMNS, *entries])
    write_text(file, text.getvalue())


def read_split(file: Path, root: Path) -> list[Entry]:
    """Return the entries of a table, in its order.

    Raises:
        DataError: it is not readable, a part has another name, an image is there twice or is not there.
    """
    try:
        with file.open(encoding="utf-8-sig", newline="") as handle:
            reader = csv.DictReader(handle)
            lacking = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
            if lacking:
                raise DataError(
                    f"no column {' and '.join(lacking)}",
                    where=f"{file}:1",
                    fix=f"the first line must be: {','.join(COLUMNS)}",
                )
            entries = [entry_of(row, f"{file}:{reader.line_num}") for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"not a csv file in UTF-8: {error}", where=file, fix="save it as UTF-8 csv"
        ) from error
    seen: set[str] = set()
    twice = [entry.path for entry in entries if entry.path in seen or seen.add(entry.path)]
    if twice:
        raise DataError(
            f"{counted(len(twice), 'image')} twice in this table: {some_of(twice)}",
            where=file,
            fix="an image is for one part only",
        )
    absent = [entry.path for entry in entries if not (root / entry.path).is_file()]
    if absent:
        raise DataError(
            f"{counted(len(absent), 'image')} of this table missing: {some_of(absent)}",
            where=file,
            fix=f"paths in it start at data.root ({root}): correct them, or make the table again",
        )
    return entries


def entry_of(row: dict[str, str | None], where: str) -> Entry:
    """Return a row as an entry.

    Raises:
        DataError: it is too short, leaves the root, or names no part.
    """
    path, part, label = (row[name] for name in COLUMNS)
    if not path or part is None or label is None:
        raise DataError("a row is too short", where=where, fix="complete it")
    posix = PurePosixPath(path)
    if posix.is_absolute() or ".." in posix.parts:
        raise DataError(f"the path '{path}' does not lie below the root", where=where)
    for known in SPLITS:
        if part == known:
            return Entry(str(posix), known, clean_name(label))
    raise DataError(f"unknown part '{part}'", where=where, fix=f"expected one of {', '.join(SPLITS)}")
