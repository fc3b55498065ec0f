"""One manifest out of a folder, csv, JSON lines, COCO or a Parquet table: images, parts, labels, captions."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeproof_configs.errors import DataError, UsageError
from edgeproof_data.exchange.coco import coco_rows
from edgeproof_data.exchange.columnar import EMBEDDING, SUFFIXES, read_batches
from edgeproof_data.folders import list_images
from edgeproof_data.paths import counted, some_of
from edgeproof_data.prompts import clean_name
from edgeproof_data.sets import SPLITS
from edgeproof_data.splitting import stratified_split

PART_WORDS = {"training": "train", "validation": "val", "valid": "val", "dev": "val", "testing": "test"}
"""What parts are called elsewhere."""


class Columns(NamedTuple):
    """What the columns, or keys, are called; None takes the first of the usual names that is there."""

    path: str | None = None
    label: str | None = None
    caption: str | None = None
    part: str | None = None


USUAL = Columns(
    "path file_name filepath file image", "label class category", "caption captions text", "part split"
)


class Row(NamedTuple):
    """An image: path relative to the root, part and label (empty where there is none), captions."""

    path: str
    part: str
    label: str
    captions: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Manifest:
    """What was found. `embeddings` is (N, D) in the order of `rows`, or None."""

    rows: list[Row]
    embeddings: NDArray[Any] | None = None


def read_manifest(source: Path, root: Path, columns: Columns, test: float, seed: int) -> Manifest:
    """Return the images that a source names, each in a part.

    Parts come from the source: a column, or folders `train`, `val` and `test`. Where it has none a stratified
    fraction becomes `test` and the rest `train`.

    Args:
        source: a folder of images, or of `.parquet` files as they lie beside shards; `.csv`, `.jsonl`,
            `.json` (COCO), `.parquet`, `.arrow` or `.feather`.
        root: the folder that paths are relative to.
        columns: what they are called.
        test: fraction to test on where the source has no parts.
        seed: of this choice.

    Raises:
        UsageError: the source is none of these, or a column is not there.
        DataError: it cannot be read; an image is missing, there twice or outside of the root; a part has
            another name.
    """
    tables = sorted(source.glob("*.parquet")) if source.is_dir() else [source]
    if source.is_dir() and not tables:
        found = Manifest(_of_folder(source, root))
    elif tables[0].suffix in SUFFIXES:
        found = _of_tables(tables, root, columns)
    elif source.suffix == ".csv":
        found = Manifest(list(_rows(source, root, columns, _csv(source))))
    elif source.suffix == ".jsonl":
        found = Manifest(list(_rows(source, root, columns, _jsonl(source))))
    elif source.suffix == ".json":
        found = Manifest(list(_rows(source, root, Columns(*COCO_COLUMNS), coco_rows(source))))
    else:
        raise UsageError(
            "this is no folder, .csv, .jsonl, .json (COCO), .parquet or .arrow file",
            where=source.absolute(),
            fix="name one of these; a list of paths becomes a csv with `path` as its first line",
        )
    _check(source, root, found.rows)
    return Manifest(_in_parts(found.rows, test, seed), found.embeddings)


COCO_COLUMNS = ("path", "label", "caption", "part")


def _of_folder(folder: Path, root: Path) -> list[Row]:
    try:
        prefix = folder.absolute().relative_to(root.absolute()).as_posix()
    except ValueError:
        raise UsageError("the folder lies outside of --root", where=folder) from None
    found = []
    for path in list_images(folder):
        parts = path.split("/")
        part = parts[0] if parts[0] in SPLITS and len(parts) > 1 else ""
        inside = parts[1:] if part else parts
        label = clean_name(inside[0]) if len(inside) > 1 else ""
        found.append(Row(path if prefix == "." else f"{prefix}/{path}", part, label))
    return found


def _of_tables(sources: Sequence[Path], root: Path, columns: Columns) -> Manifest:
    """Return the rows of all tables; embeddings have one width, and the widest type that any of them has."""
    rows: list[Row] = []
    blocks: list[NDArray[Any]] = []
    for source in sources:
        for batch in read_batches(source):
            blocks += [batch.pop(EMBEDDING)] if EMBEDDING in batch else []
            names = list(batch)
            records = (dict(zip(names, values, strict=True)) for values in zip(*batch.values(), strict=True))
            rows += _rows(source, root, columns, records)
            _check_embeddings(source, rows, blocks)
    return Manifest(rows, np.concatenate(blocks) if blocks else None)


def _check_embeddings(source: Path, rows: Sequence[Row], blocks: Sequence[NDArray[Any]]) -> None:
    """Refuse embeddings of some rows only, of several widths, or zero or not finite in the newest block."""
    if not blocks:
        return
    widths = {block.shape[1] for block in blocks}
    if len(widths) > 1 or sum(map(len, blocks)) != len(rows):
        wrong = f"of {some_of(sorted(widths))} values" if len(widths) > 1 else "of some rows only"
        raise DataError(f"embeddings {wrong}", where=source, fix="all rows must be of one model")
    length = np.linalg.norm(blocks[-1].astype(np.float64), axis=1)
    first = len(rows) - len(length)
    bad = [rows[first + at].path for at in np.flatnonzero(~np.isfinite(length) | (length == 0)).tolist()]
    if bad:
        raise DataError(
            f"{counted(len(bad), 'embedding')} zero or not finite: {some_of(bad)}",
            where=source,
            fix="take them out",
        )


def _csv(source: Path) -> Iterator[Mapping[str, Any]]:
    try:
        with source.open(encoding="utf-8-sig", newline="") as handle:
            reader = csv.DictReader(handle)
            for row in reader:
                # What has no name lies under None.
                if any(row.get(None) or ()):
                    names = len(reader.fieldnames or ())
                    raise DataError(
                        f"{names + len(row[None])} values, {names} names in the first line",
                        where=f"{source}:{reader.line_num}",
                        fix="put values with a comma in quotes",
                    )
                yield row
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"not a csv file in UTF-8: {error}", where=source, fix="save it as that") from error


def _jsonl(source: Path) -> Iterator[Mapping[str, Any]]:
    with source.open("rb") as handle:
        for number, line in enumerate(handle, 1):
            if not line.strip():
                continue
            try:
                value = json.loads(line)
            except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
                raise DataError(
                    f"a line that is no JSON: {str(error)[:80]}",
                    where=f"{source}:{number}",
                    fix="correct it, or take it out",
                ) from error
            if not isinstance(value, dict):
                raise DataError("a line that is no JSON object", where=f"{source}:{number}")
            yield value


def _rows(source: Path, root: Path, columns: Columns, records: Iterable[Mapping[str, Any]]) -> Iterator[Row]:
    named: Columns | None = None
    for number, record in enumerate(records, 1):
        named = named or _named(source, columns, list(record))
        path, label, caption, part = (None if name is None else record.get(name) for name in named)
        where = f"{source}, image {number}"
        if not isinstance(path, str) or not path:
            raise DataError("an image without a path", where=where)
        captions = caption if isinstance(caption, list) else [caption] if caption else []
        if not all(isinstance(one, str) for one in captions) or isinstance(label, list | dict):
            raise DataError(f"a label or caption of '{path}' that is no text", where=where)
        told = "" if label is None else clean_name(str(label))
        words = "" if part is None else str(part).strip().lower()
        kept = tuple(one.strip() for one in captions if one.strip())
        yield Row(_inside(path, root, where), PART_WORDS.get(words, words), told, kept)


def _named(source: Path, columns: Columns, there: list[str]) -> Columns:
    """Return the columns that are there; of `path` there must be one.

    Raises:
        UsageError: one that was asked for is not there.
    """
    found: list[str | None] = []
    for field, asked, usual in zip(Columns._fields, columns, USUAL, strict=True):
        if asked is not None and asked not in there:
            option = f"--{field}-column"
            raise UsageError(
                f"no column '{asked}'; there are: {', '.join(there)}",
                where=source,
                fix=f"say {option} with one of these",
            )
        name = asked or next((one for one in (usual or "").split() if one in there), None)
        if field == "path" and name is None:
            raise UsageError(
                f"no column of paths; there are: {', '.join(there)}",
                where=source,
                fix="name it: --path-column NAME",
            )
        found.append(name)
    return Columns(*found)


def _inside(path: str, root: Path, where: str) -> str:
    posix = PurePosixPath(path)
    if posix.is_absolute():
        try:
            posix = posix.relative_to(root.absolute().as_posix())
        except ValueError:
            raise DataError(f"'{path}' lies outside of --root", where=where) from None
    if ".." in posix.parts or "\n" in path or "\r" in path:
        raise DataError(f"a path that leads out of --root or has a line break: {path!r}", where=where)
    return str(posix)


def _check(source: Path, root: Path, rows: Sequence[Row]) -> None:
    if not rows:
        raise DataError("there is no image in it", where=source, fix="name another source")
    seen: set[str] = set()
    twice = [row.path for row in rows if row.path in seen or seen.add(row.path)]
    if twice:
        raise DataError(
            f"{counted(len(twice), 'image')} there twice: {some_of(twice)}",
            where=source,
            fix="leave one row of each",
        )
    # A member of a shard is no file of its own: its shard must be there.
    missing = [row.path for row in rows if not (root / row.path).is_file() and not _in_shard(root, row.path)]
    if missing:
        raise DataError(
            f"{counted(len(missing), 'image')} missing: {some_of(missing)}",
            where=source,
            fix=f"paths start at {root}: say --root DIR, or take the rows out",
        )
    strange = sorted({row.part for row in rows} - {*SPLITS, ""})
    if strange:
        raise DataError(
            f"unknown parts: {some_of(strange)}", where=source, fix=f"expected {', '.join(SPLITS)}"
        )


def _in_shard(root: Path, path: str) -> bool:
    shard, tar, _ = path.partition(".tar/")
    return bool(tar) and (root / f"{shard}.tar").is_file()


def _in_parts(rows: list[Row], test: float, seed: int) -> list[Row]:
    """Return the rows with a part each; what has none is for training, where others have one."""
    if any(row.part for row in rows):
        return [row if row.part else row._replace(part="train") for row in rows]
    classes = {label: number for number, label in enumerate(sorted({row.label for row in rows}))}
    labels = np.array([classes[row.label] for row in rows], np.int64)
    _, out = stratified_split([row.path for row in rows], labels, test, seed)
    tested = set(out.tolist())
    return [row._replace(part="test" if at in tested else "train") for at, row in enumerate(rows)]
