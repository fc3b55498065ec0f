"""Which views of each object are used: chosen at random or evenly, and kept as a table `path,view`."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from edgeproof_configs.errors import DataError
from edgeproof_configs.files import write_text
from edgeproof_data.object_trees import FoundObject
from edgeproof_data.objects import evenly
from edgeproof_data.paths import counted, some_of
from edgeproof_data.splitting import hash_order

How = Literal["random", "even"]
COLUMNS = ("path", "view")


def choose_views(objects: Sequence[FoundObject], count: int, how: How, seed: int) -> list[FoundObject]:
    """Return the objects with `count` views each, in the order that they had.

    Args:
        objects: each with at least so many views.
        count: views to keep of each.
        how: `random` draws by a hash of seed and path, so that more views of the same seed contain fewer;
            `even` takes every n / count-th of n.
        seed: of the draw; without effect on `even`.

    Raises:
        ValueError: an object has fewer views.
    """
    chosen = []
    for found in objects:
        total = len(found.views)
        if not 1 <= count <= total:
            raise ValueError(f"cannot choose {count} of {total} views")
        at = evenly(total, count) if how == "even" else sorted(hash_order(found.views, seed)[:count])
        chosen.append(found._replace(views=tuple(found.views[place] for place in at)))
    return chosen


def write_kept(file: Path, objects: Sequence[FoundObject]) -> None:
    """Write the views of objects as a table."""
    text = io.StringIO(newline="")
    rows = [(found.path, view) for found in objects for view in found.views]
    csv.writer(text, lineterminator="\n").writerows([COLUMNS, *rows])
    write_text(file, text.getvalue())


def keep_listed(objects: Sequence[FoundObject], file: Path) -> list[FoundObject]:
    """Return the objects that a table names, each with the views that it names, in the table's order.

    Raises:
        DataError: the table cannot be read, or names an object or a view that is not there.
    """
    try:
        with file.open(encoding="utf-8-sig", newline="") as handle:
            reader = csv.DictReader(handle)
            if not {*COLUMNS} <= {*(reader.fieldnames or ())}:
                raise DataError(
                    "no columns path and view",
                    where=f"{file}:1",
                    fix="the first line must be: path,view; `edgeproof data views` writes one",
                )
            rows = [(row["path"], row["view"]) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"not a csv file in UTF-8: {error}", where=file, fix="save it as UTF-8 csv"
        ) from error
    kept: dict[str, dict[str, None]] = {}
    for path, view in rows:
        kept.setdefault(path, {})[view] = None
    there = {found.path: set(found.views) for found in objects}
    absent = [view or path for path, view in rows if view not in there.get(path, ())]
    if absent:
        raise DataError(
            f"{counted(len(absent), 'view')} of this table not found: {some_of(absent)}",
            where=file,
            fix="paths in it start at data.root: correct them, or make the table again",
        )
    return [found._replace(views=tuple(kept[found.path])) for found in objects if found.path in kept]
