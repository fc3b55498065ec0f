"""Shards that lie elsewhere, copied once into a folder and checked, so that they can be read at any offset.

`http` and `https` are read with the standard library, everything else through fsspec. A copy counts when its
`.json` stands beside it: that is written last. It is never fetched again while it is there and whole; delete
the folder to ask anew.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import http.client
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any
from urllib.parse import urlsplit

from edgeproof_configs.errors import DataError, EdgeproofError
from edgeproof_configs.files import CHUNK_BYTES, explain_os_errors, read_json, sha256_of, write_json
from edgeproof_data.shards.storage import HTTP, file_system, reason_of

ATTEMPTS = 4
TIMEOUT_SECONDS = 30.0
WAIT_SECONDS = 0.5
"""Before the second attempt; twice as long before each further one."""
SLOWEST_BYTES_PER_SECOND = 1000.0
"""On average, once the time-out has passed."""
LARGEST_SHARD_BYTES = 64 << 30
AGENT = "edgeproof"
DISK = (errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EFBIG)
"""What is wrong with the disk here, and no reason to ask for the shard again."""


class _InterruptedError(Exception):
    """The connection ended early: the next attempt goes on where this one stopped.

    Args:
        how: in words.
        tag: the server's name for this version of the shard, where one is known: without, all is asked anew.
    """

    def __init__(self, how: str, tag: str = ""):
        super().__init__(how)
        self.tag = tag


def fetch(address: str, folder: Path, sha256: str | None = None) -> Path:
    """Return the local copy of a shard, fetched if it is not there yet.

    Processes that want the same shard wait for the first one to fetch it.

    Args:
        address: of the shard.
        folder: of all copies.
        sha256: what its bytes must hash to, in hex; None where nobody knows.

    Raises:
        DataError: it cannot be had, or is not what it should be.
        MissingPackageError: the package that reads such addresses is not installed.
        EdgeproofError: the disk is full.
    """
    name = PurePosixPath(urlsplit(address).path).name or "shard.tar"
    copy = folder / f"{hashlib.sha256(address.encode()).hexdigest()[:16]}-{name}"
    with explain_os_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / f".{copy.name}.lock").open("a")
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        told = _whole(copy, address)
        if told is None:
            told = _fetch(address, copy)
        if sha256 is not None and told["sha256"] != sha256:
            discard(copy)
            raise DataError(
                f"this shard is not what its sha256 says: {told['sha256'][:12]}…, expected {sha256[:12]}…",
                where=address,
                fix="correct data.sums, or find out who changed the shard",
            )
    return copy


def discard(copy: Path) -> None:
    """Delete a copy that turned out to be none: it is fetched again the next time."""
    for file in (_sidecar(copy), copy):
        file.unlink(missing_ok=True)


def _sidecar(copy: Path) -> Path:
    return copy.with_name(f"{copy.name}.json")


def _whole(copy: Path, address: str) -> dict[str, Any] | None:
    """Return what is known of a finished copy; None where there is none, or it is not as it was left."""
    side = _sidecar(copy)
    if not (copy.is_file() and side.is_file()):
        return None
    try:
        told = read_json(side)
        same = (told["address"], told["size"]) == (address, copy.stat().st_size)
        return told if same and isinstance(told["sha256"], str) else None
    except (EdgeproofError, KeyError, TypeError):
        # Whatever is wrong with the note, the shard can be fetched again.
        return None


def _fetch(address: str, copy: Path) -> dict[str, Any]:
    part = copy.with_name(f".{copy.name}.part")
    part.unlink(missing_ok=True)
    try:
        with explain_os_errors(copy):
            tag = _repeated(address, part)
            told = {"address": address, "size": part.stat().st_size, "sha256": sha256_of(part), "etag": tag}
            _sidecar(copy).unlink(missing_ok=True)
            part.replace(copy)
    finally:
        part.unlink(missing_ok=True)
    write_json(_sidecar(copy), told)
    return told


def _repeated(address: str, part: Path) -> str:
    """Fetch with a few attempts, and return the server's name for this version of the shard.

    Over http one that was cut goes on where it stopped, if the server can; from elsewhere each begins anew.
    """
    once = _over_http if address.startswith(HTTP) else _over_fsspec
    tag, wait = "", WAIT_SECONDS
    for attempt in range(1, ATTEMPTS + 1):
        try:
            with _explained(address):
                return once(address, part, tag)
        except _InterruptedError as error:
            if attempt == ATTEMPTS:
                raise DataError(
                    f"this shard cannot be fetched: {error} ({ATTEMPTS} attempts)",
                    where=address,
                    fix="run the same command again when the server answers, or log in to it",
                ) from error
            tag = error.tag
            time.sleep(wait)
            wait *= 2
    raise AssertionError("unreachable")


def _over_fsspec(address: str, part: Path, tag: str) -> str:
    system, path = file_system(address)
    size = system.info(path).get("size")
    _check_room(address, part, size)
    with system.open(path, "rb") as source, part.open("wb") as target:
        got = _copy(address, source, target, 0)
    if size is not None and got != size:
        raise _InterruptedError(f"{got:,} bytes came, {size:,} were promised")
    return tag


def _over_http(address: str, part: Path, tag: str) -> str:
    have = part.stat().st_size if part.exists() and tag else 0
    headers = {"User-Agent": AGENT, "Accept-Encoding": "identity"}
    headers |= {"Range": f"bytes={have}-", "If-Range": tag} if have else {}
    request = urllib.request.Request(address, headers=headers)
    with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:
        if answer.headers.get_content_type() == "text/html":
            raise DataError(
                "the server answers with a web page, not with a shard",
                where=address,
                fix="open it in a browser",
            )
        new_tag = answer.headers.get("ETag") or ""
        resumed = answer.status == http.client.PARTIAL_CONTENT
        if resumed and not (answer.headers.get("Content-Range") or "").startswith(f"bytes {have}-"):
            raise _InterruptedError("the server sends another part than it was asked for")
        if resumed and new_tag not in ("", tag):
            raise _InterruptedError("the shard changed while it was fetched")
        known = new_tag or (tag if resumed else "")
        start = have if resumed else 0
        length = _length_of(answer.headers)
        _check_room(address, part, length)
        with part.open("ab" if resumed else "wb") as target:
            try:
                got = _copy(address, answer, target, start) - start
            except _InterruptedError as error:
                raise _InterruptedError(str(error), known) from error
    if length is not None and got < length:
        raise _InterruptedError(f"{start + got:,} of {start + length:,} bytes came", known)
    return known


def _length_of(headers: Mapping[str, str]) -> int | None:
    value = headers.get("Content-Length")
    return int(value) if value is not None and value.isdigit() else None


def _copy(address: str, source: IO[bytes], target: IO[bytes], start: int) -> int:
    """Append a stream to a file and return how long the file is; never more than a shard may have.

    Raises:
        _InterruptedError: the stream breaks off, or trickles. What the file complains of is raised as it is.
    """
    size, began = start, time.monotonic()
    # One that waits until a chunk is full would never notice bytes that only trickle.
    read = getattr(source, "read1", source.read)
    while True:
        try:
            chunk = read(CHUNK_BYTES)
        except Exception as error:
            raise _InterruptedError(reason_of(error)) from error
        if not chunk:
            return size
        size += len(chunk)
        seconds = time.monotonic() - began
        if seconds > TIMEOUT_SECONDS and (size - start) / seconds < SLOWEST_BYTES_PER_SECOND:
            raise _InterruptedError(f"it comes at {(size - start) / seconds:.0f} bytes/s")
        if size > LARGEST_SHARD_BYTES:
            raise DataError(
                f"this does not end after {LARGEST_SHARD_BYTES >> 30} GiB",
                where=address,
                fix="shards of about 1 GiB are common: make smaller ones",
            )
        target.write(chunk)


def _check_room(address: str, part: Path, size: int | None) -> None:
    free = shutil.disk_usage(part.parent).free
    if size is not None and size > min(free, LARGEST_SHARD_BYTES):
        raise EdgeproofError(
            f"a shard of {size:,} bytes, {free:,} bytes are free",
            where=part.parent,
            fix=f"make room for {address}",
        )


@contextmanager
def _explained(address: str) -> Iterator[None]:
    """Sort what goes wrong on the way into what another attempt may mend, and what not."""
    try:
        yield
    except (EdgeproofError, _InterruptedError):
        raise
    except urllib.error.HTTPError as error:
        error.close()
        # 416: what is there already is longer than the shard is now.
        if error.code in (408, 416, 425, 429) or error.code >= 500:
            raise _InterruptedError(f"the server answers {error.code}") from error
        raise DataError(
            f"the server answers {error.code}: {str(error.reason)[:80]}",
            where=address,
            fix="correct the address",
        ) from error
    except FileNotFoundError as error:
        raise DataError("there is no such shard", where=address, fix="correct the address") from error
    except (PermissionError, IsADirectoryError) as error:
        words = "this may not be read" if isinstance(error, PermissionError) else "this is a folder, no shard"
        raise DataError(words, where=address, fix="log in to this storage, or correct the address") from error
    except Exception as error:
        if isinstance(error, OSError) and error.errno in DISK:
            raise
        raise _InterruptedError(reason_of(error)) from error
