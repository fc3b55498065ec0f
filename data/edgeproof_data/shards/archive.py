"""What lies where in a tar file. Nothing of it is ever unpacked, and nothing in it is believed.

The headers are walked by `tarfile`; what it forgives is refused here: a file whose last member is cut, that
is damaged in the middle, or that has no end, because whoever wrote it was stopped.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

from edgeproof_configs.errors import DataError

BLOCK_BYTES = 512
LARGEST_READ_BYTES = 1 << 20
"""What `tarfile` may ask for at once: headers are small, and one that claims more is not read."""
PACKED = {b"\x1f\x8b": "gunzip", b"\x28\xb5\x2f\xfd": "unzstd", b"BZh": "bunzip2", b"\xfd7zXZ": "unxz"}
"""The first bytes of compressed files, and what unpacks them."""
DRIVE = re.compile(r"^[A-Za-z]:")
UNLISTABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
"""Control characters, and what bytes become that are no UTF-8."""

NOT_A_FILE = "a link, a device or something else that is no plain file"
UNSAFE_NAME = "a name that is absolute, leaves the archive, or cannot be listed"


class Member(NamedTuple):
    """A plain file in an archive: its name with `/`, and where its bytes are."""

    name: str
    offset: int
    size: int


class LeftOut(NamedTuple):
    """A member that is not used, and why."""

    name: str
    reason: str


class _Headers:
    """The file as `tarfile` sees it: no read is larger than a header may be."""

    def __init__(self, handle: IO[bytes]):
        self._handle = handle
        self.seek, self.tell = handle.seek, handle.tell

    def read(self, size: int) -> bytes:
        if size > LARGEST_READ_BYTES:
            raise tarfile.ReadError(f"a header of {size} bytes")
        return self._handle.read(size)


def walk(shard: Path) -> Iterator[Member | LeftOut]:
    """Yield what is in a tar file, in its order; directories are passed over.

    Raises:
        DataError: it is compressed, cut, damaged or has no end.
    """
    size = shard.stat().st_size
    with shard.open("rb") as handle:
        _refuse_packed(shard, handle.read(8))
        handle.seek(0)
        end = 0
        try:
            with tarfile.open(fileobj=_Headers(handle), mode="r:", errors="surrogateescape") as archive:  # pyright: ignore[reportCallIssue, reportArgumentType]
                while (header := archive.next()) is not None:
                    # Else all headers of a shard stay in memory.
                    archive.members = []  # pyright: ignore[reportAttributeAccessIssue]
                    stored = header.size if header.isreg() and not header.issparse() else 0
                    if header.offset_data + stored > size:
                        there = max(size - header.offset_data, 0)
                        raise _cut(shard, f"{header.name!a} has {there} of {header.size} bytes")
                    end = header.offset_data + -(-stored // BLOCK_BYTES) * BLOCK_BYTES
                    if not header.isdir():
                        yield _judged(header)
        except (tarfile.TarError, ValueError, EOFError) as error:
            raise DataError(
                f"this is not a readable tar file: {error}", where=shard, fix="fetch or write it again"
            ) from error
        _check_end(shard, handle, end, size)


def safe_name(name: str) -> str | None:
    """Return a member's name without `./` in front; None if it could lead out of a folder or break a list."""
    parts = [part for part in name.split("/") if part != "."]
    if UNLISTABLE.search(name) or len(name.splitlines()) != 1:
        return None
    if name.startswith("/") or "\\" in name or DRIVE.match(name):
        return None
    return None if not parts or any(part in ("", "..") for part in parts) else "/".join(parts)


def _judged(header: tarfile.TarInfo) -> Member | LeftOut:
    name = safe_name(header.name)
    if not header.isreg() or header.issparse():
        return LeftOut(ascii(header.name), NOT_A_FILE)
    if name is None:
        return LeftOut(ascii(header.name), UNSAFE_NAME)
    return Member(name, header.offset_data, header.size)


def _refuse_packed(shard: Path, start: bytes) -> None:
    for magic, program in PACKED.items():
        if start.startswith(magic):
            raise DataError(
                "a compressed shard cannot be read at an offset",
                where=shard,
                fix=f"unpack it first ({program}); images are compressed already, so this costs little space",
            )


def _check_end(shard: Path, handle: IO[bytes], end: int, size: int) -> None:
    """Refuse a shard that does not end after its last member as a tar file does, with blocks of zeros."""
    handle.seek(end)
    last = handle.read(BLOCK_BYTES)
    if len(last) < BLOCK_BYTES:
        raise _cut(shard, f"nothing says that it ends at byte {size}")
    if any(last):
        raise DataError(f"this shard is damaged at byte {end}", where=shard, fix="fetch or write it again")


def _cut(shard: Path, how: str) -> DataError:
    return DataError(f"this shard is cut: {how}", where=shard, fix="fetch or write it again")
