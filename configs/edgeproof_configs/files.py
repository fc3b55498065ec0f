"""Writing files so that a crash leaves the old one or the new one, and knowing whether a file has changed."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from edgeproof_configs.errors import EdgeproofError

CHUNK_BYTES = 1 << 20
TEMPORARY_ENDING = 8
"""Characters that `tempfile` puts behind a name."""


@contextmanager
def explain_os_errors(target: Path) -> Iterator[None]:
    """Turn the operating system's complaint about a path into an error with advice.

    Raises:
        EdgeproofError: the disk is full, the place is read-only, may not be written or is below a file.
    """
    try:
        yield
    except OSError as error:
        advice = {
            28: "free some space, or choose another place (of a run: --run DIR), then run the same again",
            30: "the file system is read-only: choose another place (of a run: --run DIR)",
            20: "a file lies where a folder has to be: choose another place",
            17: "a file lies where a folder has to be: choose another place",
            13: "this user may not write there: choose another place (of a run: --run DIR)",
        }
        if error.errno not in advice:
            raise
        raise EdgeproofError(
            f"cannot write: {os.strerror(error.errno)}", where=target, fix=advice[error.errno]
        ) from error


@contextmanager
def atomic_open(path: Path, mode: str = "wb") -> Iterator[IO[Any]]:
    """Open a temporary file beside `path` and rename it over `path` when the block ends without an error."""
    with explain_os_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = tempfile.NamedTemporaryFile(  # noqa: SIM115 - closed below, before it is renamed
            mode, dir=path.parent, prefix=f".{path.name}.", delete=False
        )
        temporary = Path(handle.name)
        try:
            with handle:
                yield handle
                handle.flush()
                os.fsync(handle.fileno())
            temporary.chmod(0o644)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def half_written(path: Path, *names: str) -> bool:
    """Whether this is what a killed `atomic_open` of one of these names left."""
    name, _, ending = path.name.rpartition(".")
    return len(ending) == TEMPORARY_ENDING and name in {f".{one}" for one in names}


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file atomically."""
    with atomic_open(path) as handle:
        handle.write(data)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 file atomically."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON atomically; NaN and infinity are refused."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        EdgeproofError: the file is cut or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise EdgeproofError(
            f"not a readable JSON file: {error}", where=path, fix="delete it and run again"
        ) from error


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file's bytes, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        while chunk := handle.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def digest_of(value: Any) -> str:
    """Return the sha256 of a JSON-able value, independent of the order of keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


class FileTable:
    """Content hashes of files, kept so that only a file whose size or mtime changed is read again.

    Stored as one line a file: `sha256 size mtime_ns path`.
    """

    def __init__(self, path: Path):
        self.path = path
        self._known: dict[str, tuple[int, int, str]] = {}
        self._dirty = False
        if path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                digest, size, mtime_ns, name = line.split(" ", 3)
                self._known[name] = (int(size), int(mtime_ns), digest)

    def sha256(self, file: Path) -> str:
        """Return a file's content hash, from the table where size and mtime are the same."""
        stat = file.stat()
        name = str(file.absolute())
        known = self._known.get(name)
        if known and known[0] == stat.st_size and known[1] == stat.st_mtime_ns:
            return known[2]
        digest = sha256_of(file)
        self._known[name] = (stat.st_size, stat.st_mtime_ns, digest)
        self._dirty = True
        return digest

    def save(self) -> None:
        """Write the table where something changed."""
        if not self._dirty:
            return
        lines = (f"{sha} {size} {mtime} {name}\n" for name, (size, mtime, sha) in self._known.items())
        write_text(self.path, "".join(lines))
        self._dirty = False
