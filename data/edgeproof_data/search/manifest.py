"""The manifest of a search: a csv with an image a line, the words that found it, and how well they fit."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from edgeproof_configs.errors import DataError
from edgeproof_configs.files import write_text
from edgeproof_data.paths import counted, some_of

PLACES = ("path", "url")
COLUMNS = ("prompt", "score", "margin")


class Found(NamedTuple):
    """An image by path or URL, the prompt that it fits best, its cosine, and its lead over the next."""

    place: str
    prompt: str
    score: float
    margin: float | None


def write_manifest(file: Path, place: str, found: Iterable[Found]) -> None:
    """Write a manifest.

    Args:
        file: where.
        place: `path` or `url`: how its images are named.
        found: its lines.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([place, *COLUMNS])
    for one in found:
        margin = "" if one.margin is None else f"{one.margin:.6f}"
        writer.writerow([one.place, one.prompt, f"{one.score:.6f}", margin])
    write_text(file, text.getvalue())


def read_manifest(file: Path) -> tuple[str, list[Found]]:
    """Return how a manifest names its images (`path` or `url`), and its lines.

    Raises:
        DataError: it is not such a table, a line is not complete, or an image is there twice.
    """
    try:
        with file.open(encoding="utf-8-sig", newline="") as handle:
            reader = csv.DictReader(handle)
            names: Sequence[str] = reader.fieldnames or ()
            place = next((name for name in PLACES if name in names), None)
            if place is None or "prompt" not in names:
                raise DataError(
                    f"this is no manifest of a search: its columns are {', '.join(names) or 'none'}",
                    where=f"{file}:1",
                    fix="its first line must have path or url, and prompt",
                )
            found = [_line(row, place, f"{file}:{reader.line_num}") for row in reader]
    except FileNotFoundError:
        raise DataError(
            "there is no such manifest", where=file, fix="make it: edgeproof data search"
        ) from None
    except (UnicodeDecodeError, csv.Error, IsADirectoryError) as error:
        raise DataError(f"not a csv file in UTF-8: {error}", where=file, fix="save it as that") from error
    seen: set[str] = set()
    twice = [one.place for one in found if one.place in seen or seen.add(one.place)]
    if twice:
        raise DataError(
            f"{counted(len(twice), 'image')} twice in this manifest: {some_of(twice)}",
            where=file,
            fix="leave one line of each",
        )
    return place, found


def _line(row: dict[str, str | None], place: str, where: str) -> Found:
    name, prompt = row[place], row["prompt"]
    if not name or not prompt:
        raise DataError("a row is too short", where=where, fix="complete it or delete it")
    try:
        score, margin = (float(row.get(key) or "nan") for key in ("score", "margin"))
    except ValueError as error:
        raise DataError(f"not a number: {error}", where=where, fix="correct it, or leave it empty") from error
    return Found(name, prompt, score, None if margin != margin else margin)
