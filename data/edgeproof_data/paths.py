"""Where files named in a recipe are looked for, and how many of them fit into one line of an error."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgeproof_configs.errors import DataError, UsageError


def resolve_path(value: str | Path, root: Path | None) -> Path:
    """Return an existing file or folder that a recipe names.

    An absolute path is taken as it is. A relative one is looked for under `root` first, then in the working
    directory.

    Args:
        value: as it stands in the recipe; `~` is the home folder.
        root: the data set's folder, if there is one.

    Raises:
        DataError: there is nothing at any of these places.
    """
    path = Path(value).expanduser()
    places = [path] if path.is_absolute() or root is None else [root / path, Path.cwd() / path]
    for place in places:
        if place.exists():
            return place
    raise DataError(
        f"'{value}' does not exist",
        where=" or ".join(dict.fromkeys(str(place.absolute()) for place in places)),
        fix="correct the path; relative paths start at the data root, then at the working directory",
    )


def data_root(given: str | None, noun: str) -> Path:
    """Return the folder of a data set.

    Args:
        given: what the recipe says.
        noun: what lies there, such as `photos`.

    Raises:
        UsageError: nothing is given.
        DataError: there is no such folder.
    """
    fix = f"--set data.root=/your/{noun}"
    if given is None:
        raise UsageError("data.root is not set", fix=f"say where the {noun} lie: {fix}")
    root = Path(given).expanduser().absolute()
    if not root.is_dir():
        raise DataError("the data folder does not exist", where=root, fix=fix)
    return root


def some_of(items: Sequence[object], shown: int = 3) -> str:
    """Return `a, b, c and 4 more`."""
    listed = ", ".join(str(item) for item in items[:shown])
    return listed if len(items) <= shown else f"{listed} and {len(items) - shown} more"


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """Return `1 image` or `3 images`."""
    return f"{count} {noun if count == 1 else plural or noun + 's'}"
