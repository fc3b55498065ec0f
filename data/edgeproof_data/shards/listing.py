"""Which shards a pattern means: braces as in `train-{000..099}.tar`, wildcards, addresses."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from edgeproof_configs.errors import DataError, UsageError
from edgeproof_data.paths import some_of
from edgeproof_data.shards.storage import HTTP, listed

MOST_SHARDS = 100_000
SCHEME = re.compile(r"^[a-z][a-z0-9+.-]*://")
BRACES = re.compile(r"\{([^{}]*)\}")
RANGE = re.compile(r"^(\d+)\.\.(\d+)$")


def is_address(place: str) -> bool:
    """Whether this is an address such as `https://host/x.tar` or `s3://bucket/x.tar`, and not a path."""
    return SCHEME.match(place) is not None


def expand(pattern: str) -> list[str]:
    """Return what a pattern with braces stands for, in order: `{08..10}` is 08, 09, 10, `{a,b}` is a, b.

    Raises:
        UsageError: braces that are not closed, or more than `MOST_SHARDS` shards.
    """
    found = list(_expanded(pattern, MOST_SHARDS))
    unclosed = [one for one in found if "{" in one or "}" in one]
    if unclosed:
        raise UsageError(
            f"braces that are not understood: '{pattern}'", fix="write {000..099} for a range, or {a,b}"
        )
    return found


def list_shards(pattern: str, root: str) -> list[str]:
    """Return the shards of a pattern: absolute paths, or addresses; sorted where there are wildcards.

    Args:
        pattern: relative to `root`, or an address; with braces, or wildcards.
        root: folder or address that it starts at.

    Raises:
        DataError: there is none, or one is missing.
        UsageError: it cannot be listed.
    """
    found: list[str] = []
    for one in expand(pattern):
        whole = one if is_address(one) else f"{root.rstrip('/')}/{one}"
        if not is_address(whole):
            found += _files(one, Path(root))
        elif any(sign in one for sign in "*?["):
            found += _listed_there(whole)
        else:
            found.append(whole)
    twice = len(found) - len(set(found))
    if twice:
        raise UsageError(f"'{pattern}' names {twice} of its shards twice", fix="correct the pattern")
    return found


def _expanded(pattern: str, left: int) -> Iterator[str]:
    braces = BRACES.search(pattern)
    if braces is None:
        yield pattern
        return
    inside = braces.group(1)
    numbers = RANGE.match(inside)
    if numbers is None and "," not in inside:
        yield pattern
        return
    options = inside.split(",")
    if numbers is not None:
        first, last = numbers.groups()
        if not 0 <= int(last) - int(first) < left:
            raise UsageError(f"'{{{inside}}}' is not a range of 1 to {MOST_SHARDS:,} shards")
        options = [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]
    count = 0
    for option in options:
        for one in _expanded(pattern[: braces.start()] + option + pattern[braces.end() :], left):
            count += 1
            if count > left:
                raise UsageError(f"'{pattern}' stands for more than {MOST_SHARDS:,} shards")
            yield one


def _files(pattern: str, root: Path) -> list[str]:
    """Return the shards below a folder that a pattern without braces means."""
    posix = PurePosixPath(pattern)
    if posix.is_absolute() or ".." in posix.parts:
        raise UsageError(f"shards must lie inside data.root, got '{pattern}'", where=root)
    if not any(sign in pattern for sign in "*?["):
        if not (root / pattern).is_file():
            raise DataError(
                "a shard is missing", where=root / pattern, fix="fetch it, or correct the pattern"
            )
        return [str(root / pattern)]
    found = sorted(str(file) for file in root.glob(pattern) if file.is_file())
    if not found:
        there = sorted(file.name for file in root.glob("*.tar"))
        raise DataError(
            f"no shard is named like '{pattern}'",
            where=root,
            fix=f"there are: {some_of(there)}" if there else "correct data.root: it holds no .tar file",
        )
    return found


def _listed_there(pattern: str) -> list[str]:
    if pattern.startswith(HTTP):
        raise UsageError(
            f"a web server does not list its files: '{pattern}'", fix="write braces, as in {000..099}"
        )
    found = listed(pattern)
    if not found:
        raise DataError(f"no shard is named like '{pattern}'", fix="correct the pattern")
    return found
