"""Reading what `sha256sum` writes."""

from __future__ import annotations

import re
from pathlib import Path

from edgeproof_configs.errors import DataError

LINE = re.compile(r"^([0-9a-fA-F]{64})[ \t]+\*?(?:.*/)?([^/]+)$")


def read_sums(file: Path) -> dict[str, str]:
    """Return the sha256 of each named file, by its name without folders.

    Raises:
        DataError: a line is not as `sha256sum` writes it, or a name has two sums.
    """
    found: dict[str, str] = {}
    for number, line in enumerate(file.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        if not line.strip():
            continue
        match = LINE.match(line)
        if match is None or found.setdefault(match[2], match[1].lower()) != match[1].lower():
            raise DataError(
                "a line that names no file with one sha256",
                where=f"{file}:{number}",
                fix="write it with: sha256sum *.tar",
            )
    return found
