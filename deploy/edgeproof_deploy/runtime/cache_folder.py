"""Where what can be made again is kept: plans that were built on this machine, timing and kernel caches."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder(*parts: str) -> Path:
    """Return `$EDGEPROOF_CACHE` or `~/.cache/edgeproof`, and a folder below it; it need not exist."""
    return Path(os.environ.get("EDGEPROOF_CACHE") or Path.home() / ".cache" / "edgeproof", *parts)
