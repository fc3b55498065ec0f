"""Where what can be made again is kept: plans that were built on this machine, timing and kernel caches."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def cache_folder(*parts: str) -> Path:
    """Return `$EDGEPROOF_CACHE` or `~/.cache/edgeproof`, and a folder below it; it need not exist."""
    return Path(os.environ.get("EDGEPROOF_CACHE") or Path.home() / ".cache" / "edgeproof", *parts)


def keep(path: Path, data: bytes) -> None:
    """Write a file of the cache whole or not at all, and make its folder.

    Raises:
        OSError: the place cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
