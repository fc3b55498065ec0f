"""The index of a shard: name, offset, size and sha256 of each member, made once and kept.

An index is a `.npy` in the cache folder whose bytes depend on the shard's contents alone, so that it stands
for the shard wherever a digest of the data is wanted. What the shard's file was when it was read lies beside
it in a `.json`, with the sha256 of the index: one that does not fit is made anew.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeproof_configs.errors import DataError, EdgeproofError
from edgeproof_configs.files import explain_os_errors, read_json, sha256_of, write_json
from edgeproof_data.cache.layout import write_array
from edgeproof_data.paths import counted, some_of
from edgeproof_data.shards.archive import LeftOut, Member, walk

FORMAT = 1
LARGEST_MEMBER_BYTES = 1 << 30
"""No photo or text is larger; what claims to be is not read."""
MOST_NAMED = 20
"""Members that are left out and remembered by name; of the others only the number is kept."""


@dataclass(frozen=True, eq=False)
class ShardIndex:
    """What is in a shard.

    Attributes:
        shard: the local file.
        stat: its size and mtime in ns when it was read.
        members: records of name (UTF-8), offset, size and sha256, in the order of the archive.
        left_out: how many members were left out, by reason, and some of them.
        file: where the index lies.
    """

    shard: Path
    stat: tuple[int, int]
    members: NDArray[np.void]
    left_out: dict[str, list[Any]]
    file: Path

    def names(self) -> list[str]:
        """Return the names of all members."""
        return [name.decode() for name in self.members["name"].tolist()]


def index_of(shard: Path, folder: Path) -> ShardIndex:
    """Return the index of a shard, made now where there is none or the shard changed.

    Processes that want the same index wait for the first one to make it.

    Args:
        shard: a local tar file.
        folder: of all indices.

    Raises:
        DataError: the shard is missing, compressed, cut or damaged, or a name is in it twice.
        EdgeproofError: the folder cannot be written.
    """
    name = f"{hashlib.sha256(str(shard).encode()).hexdigest()[:16]}-{shard.name}"
    file, side = folder / f"{name}.index.npy", folder / f"{name}.index.json"
    with explain_os_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / f".{name}.lock").open("a")
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        known = _known(shard, file, side)
        if known is None:
            _write(shard, file, side)
            known = _known(shard, file, side)
    if known is None:
        raise DataError("this shard changes while it is read", where=shard, fix="wait until it is written")
    return known


def stat_of(shard: Path) -> tuple[int, int]:
    """Return size and mtime of a shard.

    Raises:
        DataError: it is not there, or is no file.
    """
    try:
        stat = os.stat(shard)
    except OSError as error:
        raise DataError(f"this shard cannot be read: {error.strerror}", where=shard) from error
    return stat.st_size, stat.st_mtime_ns


def _known(shard: Path, file: Path, side: Path) -> ShardIndex | None:
    """Return the index that is there; None where it is of other contents, cut or of another format."""
    if not (file.is_file() and side.is_file()):
        return None
    stat = stat_of(shard)
    try:
        told = read_json(side)
        same = told["format"] == FORMAT and tuple(told["stat"]) == stat and told["index"] == sha256_of(file)
        if not same:
            return None
        members = np.load(file, allow_pickle=False)
    except (EdgeproofError, KeyError, TypeError, ValueError, EOFError):
        # Whatever is wrong with an index, the shard says it anew.
        return None
    return ShardIndex(shard, stat, members, told["left_out"], file)


def _write(shard: Path, file: Path, side: Path) -> None:
    stat = stat_of(shard)
    found: list[tuple[bytes, int, int, bytes]] = []
    left_out: dict[str, list[Any]] = {}
    with shard.open("rb", buffering=0) as handle:
        for one in walk(shard):
            if isinstance(one, Member) and one.size <= LARGEST_MEMBER_BYTES:
                found.append((one.name.encode(), one.offset, one.size, _sha256(handle.fileno(), one)))
                continue
            reason = (
                one.reason if isinstance(one, LeftOut) else f"larger than {LARGEST_MEMBER_BYTES >> 30} GiB"
            )
            entry = left_out.setdefault(reason, [0, []])
            entry[0] += 1
            entry[1] += [one.name] if len(entry[1]) < MOST_NAMED else []
    _refuse_twice(shard, [name for name, *_ in found])
    width = max((len(name) for name, *_ in found), default=1)
    dtype = np.dtype([("name", f"S{width}"), ("offset", "<i8"), ("size", "<i8"), ("sha256", "V32")])
    write_array(file, dtype, (len(found),), [np.array(found, dtype)])
    told = {
        "format": FORMAT,
        "shard": str(shard),
        "stat": stat,
        "index": sha256_of(file),
        "left_out": left_out,
    }
    write_json(side, told)


def _sha256(descriptor: int, member: Member) -> bytes:
    return hashlib.sha256(os.pread(descriptor, member.size, member.offset)).digest()


def _refuse_twice(shard: Path, names: list[bytes]) -> None:
    twice = [name.decode() for name, count in Counter(names).items() if count > 1]
    if twice:
        raise DataError(
            f"{counted(len(twice), 'name')} more than once in this shard: {some_of(twice)}",
            where=shard,
            fix="write it again with a key of its own for each sample",
        )
