"""Tables that say something about images: `path,label` and `path,caption`, in csv."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from edgeproof_configs.errors import DataError
from edgeproof_data.paths import counted, some_of
from edgeproof_data.prompts import clean_name


def read_label_table(file: Path) -> dict[str, str]:
    """Return the cleaned class name of each path of a `path,label` table.

    Raises:
        DataError: the table is not readable, a label is empty, or a path has two labels.
    """
    labels: dict[str, str] = {}
    empty, clashing = [], []
    for line, path, text in _rows(file, "label"):
        name = clean_name(text)
        if not name:
            empty.append(f"line {line}")
        elif labels.setdefault(path, name) != name:
            clashing.append(f"{path} ('{labels[path]}' and '{name}', line {line})")
    if empty:
        raise DataError(
            f"{counted(len(empty), 'row')} without a label: {some_of(empty)}", where=file, fix="add it"
        )
    if clashing:
        raise DataError(
            f"{counted(len(clashing), 'image')} with two labels: {some_of(clashing)}",
            where=file,
            fix="keep one row an image",
        )
    return labels


def read_captions(file: Path) -> dict[str, list[str]]:
    """Return the captions of each path of a `path,caption` table; an image may have several rows.

    Raises:
        DataError: the table is not readable, or a caption is empty.
    """
    captions: dict[str, list[str]] = {}
    empty = []
    for line, path, text in _rows(file, "caption"):
        if not text.strip():
            empty.append(f"line {line}")
        captions.setdefault(path, []).append(text.strip())
    if empty:
        raise DataError(
            f"{counted(len(empty), 'empty caption')}: {some_of(empty)}", where=file, fix="delete the rows"
        )
    return captions


def check_table_files(file: Path, paths: list[str], root: Path) -> None:
    """Check that every image that a table names is there.

    Raises:
        DataError: some are missing.
    """
    missing = [path for path in paths if not (root / path).is_file()]
    if missing:
        raise DataError(
            f"{counted(len(missing), 'image')} of this table missing: {some_of(missing)}",
            where=file,
            fix=f"paths in it start at data.root ({root}): correct them, or delete the rows",
        )


def _rows(file: Path, column: str) -> Iterator[tuple[int, str, str]]:
    """Yield line number, path and the value of one column."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as handle:
            reader = csv.DictReader(handle)
            columns = reader.fieldnames or []
            lacking = [name for name in ("path", column) if name not in columns]
            if lacking:
                raise DataError(
                    f"no column {' and '.join(lacking)}; there are: {', '.join(columns) or 'none'}",
                    where=f"{file}:1",
                    fix=f"the first line must be: path,{column}",
                )
            for row in reader:
                if not row["path"] or row[column] is None:
                    raise DataError(
                        "a row is too short", where=f"{file}:{reader.line_num}", fix="complete it"
                    )
                yield reader.line_num, str(PurePosixPath(row["path"])), row[column]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"not a csv file in UTF-8: {error}", where=file, fix="save it as UTF-8 csv"
        ) from error
