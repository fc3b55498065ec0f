"""Which images a head was fitted and chosen on, by name: tables beside `head.json`."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from io import StringIO
from pathlib import Path

from edgeproof_configs.files import write_text
from edgeproof_train.head_evidence import Gathered, Labelled, Plain

SHOTS_FILE = "shots.csv"
VAL_FILE = "val.csv"
COLUMNS = ("path", "label", "split", "views")
MOST_NAMED = 120
"""So many images of a draw are named in `head.json` and the report, too; of more the table alone has them."""


def write_draws(gathered: Gathered, folder: Path) -> list[Path]:
    """Write a table of the shots and one of the validation images, a row an image, and return both.

    Each is a csv `path,label,split,views`, paths relative to the data. What is told of a draw then says in
    `file` which table it is, and in `by_class`, of few images, what is in it. A draw that is empty, or that
    nothing was made of, has no table.
    """
    names, files = gathered.evidence.names, []
    draws = ((gathered.shots, "shots", SHOTS_FILE), (gathered.val, "val", VAL_FILE))
    for drawn, key, file in draws:
        if not any(len(one.labels) for one in drawn):
            continue
        told: Plain = gathered.told[key]
        write_text(folder / file, table_of(drawn, names, told.get("views", 1)))
        told["file"] = file
        if sum(len(one.labels) for one in drawn) <= MOST_NAMED:
            told["by_class"] = by_class(drawn, names)
        files.append(folder / file)
    return files


def table_of(drawn: Sequence[Labelled], names: Sequence[str], views: int) -> str:
    """Return images as csv, in the order in which they were drawn."""
    text = StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    for one in drawn:
        pairs = zip(one.images.paths, one.labels, strict=True)
        table.writerows((path, names[label], one.part, views) for path, label in pairs)
    return text.getvalue()


def by_class(drawn: Sequence[Labelled], names: Sequence[str]) -> dict[str, list[str]]:
    """Return the paths of images by their label, in the order of the labels."""
    found: dict[int, list[str]] = {}
    for one in drawn:
        for path, label in zip(one.images.paths, one.labels, strict=True):
            found.setdefault(int(label), []).append(path)
    return {names[label]: found[label] for label in sorted(found)}
