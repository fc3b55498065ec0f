"""A table `path,part,label` that says which images, or objects, are for training, validation and test."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple, TypeVar

from edgeproof_configs.errors import DataError
from edgeproof_configs.files import write_text
from edgeproof_data.paths import counted, some_of
from edgeproof_data.prompts import clean_name
from edgeproof_data.sets import SPLITS, SplitName

COLUMNS = ("path", "part", "label")
Part = TypeVar("Part", bound=str)


class Entry(NamedTuple):
    """An image, relative to the data's root, the part it is for, and its class; empty where it has none."""

    path: str
    part: SplitName
    label: str


def write_split(file: Path, entries: Iterable[tuple[str, str, str]]) -> None:
    """Write a table of rows path, part, label."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows([COLUMNS, *entries])
    write_text(file, text.getvalue())


def read_split(file: Path, root: Path) -> list[Entry]:
    """Return the entries of a table of images, in its order.

    Raises:
        DataError: it is not readable, a part has another name, an image is there twice or is not there.
    """
    entries = [Entry(*row) for row in read_rows(file, SPLITS, "image")]
    absent = [entry.path for entry in entries if not (root / entry.path).is_file()]
    if absent:
        raise DataError(
            f"{counted(len(absent), 'image')} of this table missing: {some_of(absent)}",
            where=file,
            fix=f"paths in it start at data.root ({root}): correct them, or make the table again",
        )
    return entries


def read_rows(file: Path, parts: Sequence[Part], noun: str) -> list[tuple[str, Part, str]]:
    """Return the rows of a table, in its order: path, part and cleaned label.

    Args:
        file: the table.
        parts: the parts that it may name.
        noun: what a row stands for, in errors.

    Raises:
        DataError: it is not readable, a part has another name, or a path is there twice.
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
            rows = [_checked(row, parts, f"{file}:{reader.line_num}") for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"not a csv file in UTF-8: {error}", where=file, fix="save it as UTF-8 csv"
        ) from error
    seen: set[str] = set()
    twice = [path for path, _, _ in rows if path in seen or seen.add(path)]
    if twice:
        raise DataError(
            f"{counted(len(twice), noun)} twice in this table: {some_of(twice)}",
            where=file,
            fix=f"an {noun} is for one part only",
        )
    return rows


def _checked(row: dict[str, str | None], parts: Sequence[Part], where: str) -> tuple[str, Part, str]:
    path, part, label = (row[name] for name in COLUMNS)
    if not path or part is None or label is None:
        raise DataError("a row is too short", where=where, fix="complete it")
    posix = PurePosixPath(path)
    if posix.is_absolute() or ".." in posix.parts:
        raise DataError(f"the path '{path}' does not lie below the root", where=where)
    for known in parts:
        if part == known:
            return str(posix), known, clean_name(label)
    raise DataError(f"unknown part '{part}'", where=where, fix=f"expected one of {', '.join(parts)}")
