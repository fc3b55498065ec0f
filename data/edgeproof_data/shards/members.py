"""Images inside shards, as a set whose images are read at their offset, and each as a path of its own."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PosixPath
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgeproof_configs.errors import DataError
from edgeproof_data.sets import ImageSet
from edgeproof_data.shards.index import ShardIndex

MOST_OPEN = 256
"""Shards that are kept open at a time."""

MEMBER_DTYPE = np.dtype([("shard", "<i4"), ("offset", "<i8"), ("size", "<i8"), ("sha256", "V32")])


class _Descriptor:
    """An open file that is closed once nobody reads from it any more."""

    def __init__(self, shard: Path):
        self.number = os.open(shard, os.O_RDONLY | os.O_CLOEXEC)

    def __del__(self, close: Callable[[int], None] = os.close) -> None:
        # Kept as a default, since modules are gone when an interpreter ends.
        if hasattr(self, "number"):
            close(self.number)


class Shards:
    """The shards of a data set, open as far as they are needed. Threads and forked processes may share it.

    Args:
        indices: of the shards, in order.
    """

    def __init__(self, indices: Sequence[ShardIndex]):
        self.files = [index.shard for index in indices]
        self.stats = [index.stat for index in indices]
        self._open: dict[int, _Descriptor] = {}

    def read(self, shard: int, offset: int, size: int) -> bytes:
        """Return some bytes of a shard.

        Raises:
            DataError: the shard is gone, or is not what it was when it was indexed.
        """
        opened = self._open.get(shard) or self._opened(shard)
        stat = os.fstat(opened.number)
        data = os.pread(opened.number, size, offset)
        if (stat.st_size, stat.st_mtime_ns) != self.stats[shard] or len(data) != size:
            raise DataError(
                "this shard changed after it was indexed",
                where=self.files[shard],
                fix="leave it alone while it is read, then run the same command again",
            )
        return data

    def _opened(self, shard: int) -> _Descriptor:
        # No lock, which a forked worker could inherit closed: two threads may open a shard at once, and the
        # one that is not kept is closed when its reader is done.
        try:
            opened = self._open[shard] = _Descriptor(self.files[shard])
        except OSError as error:
            raise DataError(
                f"this shard cannot be read: {error.strerror}", where=self.files[shard]
            ) from error
        if len(self._open) > MOST_OPEN:
            self._open.pop(list(self._open)[0], None)  # noqa: RUF015 - iterating would not be atomic
        return opened

    def __reduce__(self) -> tuple[Any, ...]:
        return _shards, (self.files, self.stats)


def _shards(files: list[Path], stats: list[tuple[int, int]]) -> Shards:
    made = Shards([])
    made.files, made.stats = files, stats
    return made


class MemberStat(NamedTuple):
    """What is asked of a file: its size, and a number that changes with its contents in place of a time."""

    st_size: int
    st_mtime_ns: int


class MemberPath(PosixPath):
    """A member of a shard as a path that can be opened for reading, for code that takes files.

    It reads `SHARD/NAME`; nothing lies there on the disk.
    """

    _shards: Shards
    _member: tuple[int, int, int]
    _stat: MemberStat

    @classmethod
    def of(cls, path: str, shards: Shards, member: NDArray[np.void] | np.void) -> MemberPath:
        """Return the path of a member, a record of `MEMBER_DTYPE`."""
        made = cls(path)
        made._shards = shards
        made._member = int(member["shard"]), int(member["offset"]), int(member["size"])
        made._stat = MemberStat(int(member["size"]), int(content_numbers(np.atleast_1d(member))[0]))
        return made

    def read_bytes(self) -> bytes:
        """Return the member."""
        return self._shards.read(*self._member)

    def open(self, mode: str = "r", *_: Any, **__: Any) -> IO[Any]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Open the member for reading bytes.

        Raises:
            ValueError: another mode is asked for.
        """
        if mode != "rb":
            raise ValueError(f"a member of a shard can only be opened as 'rb', got '{mode}'")
        return io.BytesIO(self.read_bytes())

    def stat(self, **_: Any) -> Any:
        """Return size, and a number of the contents in place of a time."""
        return self._stat

    def exists(self, **_: Any) -> bool:
        """It does."""
        return True

    def is_file(self, **_: Any) -> bool:
        """It is."""
        return True

    def is_dir(self, **_: Any) -> bool:
        """It is not."""
        return False

    def absolute(self) -> MemberPath:
        """Return the same path."""
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return _member_path, (str(self), self._shards, self._member, self._stat)


def _member_path(path: str, shards: Shards, member: tuple[int, int, int], stat: MemberStat) -> MemberPath:
    made = MemberPath(path)
    made._shards, made._member, made._stat = shards, member, stat
    return made


def content_numbers(members: NDArray[np.void]) -> NDArray[np.int64]:
    """Return for each record the first 63 bits of its sha256."""
    digests = np.frombuffer(np.ascontiguousarray(members["sha256"]).tobytes(), ">u8").reshape(-1, 4)
    return (digests[:, 0] >> np.uint64(1)).astype(np.int64)


@dataclass(frozen=True, eq=False)
class ShardSet(ImageSet):
    """An ordered set of images in shards; a path is `SHARD/MEMBER`.

    Attributes:
        shards: where they are read from.
        members: (N,) records of `MEMBER_DTYPE`.
    """

    shards: Shards = field(default_factory=lambda: Shards([]))
    members: NDArray[np.void] = field(default_factory=lambda: np.zeros(0, MEMBER_DTYPE))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.members.shape != (len(self.paths),) or self.members.dtype != MEMBER_DTYPE:
            raise ValueError(f"expected {len(self.paths)} records of members, got {self.members.shape}")

    def file(self, index: int) -> MemberPath:
        """Return an image as a path that can be opened."""
        return MemberPath.of(f"{self.root}/{self.paths[index]}", self.shards, self.members[index])

    def read(self, index: int) -> bytes:
        """Return the bytes of an image."""
        shard, offset, size, _ = self.members[index].item()
        return self.shards.read(shard, offset, size)

    def stats(self) -> NDArray[np.int64]:
        """Return (N, 2): sizes, and in place of times numbers that only change with the contents."""
        return np.stack([self.members["size"], content_numbers(self.members)], axis=1)

    def subset(self, indices: ArrayLike) -> ShardSet:
        """Return the images at these positions, in this order."""
        plain = super().subset(indices)
        chosen = np.asarray(indices, dtype=np.int64)
        return ShardSet(
            plain.root, plain.paths, plain.labels, plain.class_names, self.shards, self.members[chosen]
        )
