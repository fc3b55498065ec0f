"""Readings of a machine: a value, or the words `not read: why`. What could not be read is never a zero."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

NOT_READ = "not read: "
TOOL_SECONDS = 10.0


def not_read(why: str) -> str:
    """Return what stands in the place of a value that could not be read."""
    return f"{NOT_READ}{why}"


def is_read(value: Any) -> bool:
    """Whether this is a value, and not the words for one that could not be read."""
    return value is not None and not (isinstance(value, str) and value.startswith(NOT_READ))


def file_text(path: Path) -> str:
    """Return the text of a small file of the system, or why it could not be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError as error:
        return not_read(f"{path}: {error.strerror or error}")


def tool_text(*command: str) -> str:
    """Return what a tool prints, or why it could not be asked."""
    program = shutil.which(command[0])
    if program is None:
        return not_read(f"there is no {command[0]} on this machine")
    try:
        done = subprocess.run(
            [program, *command[1:]], capture_output=True, text=True, timeout=TOOL_SECONDS, check=False
        )
    except (OSError, subprocess.SubprocessError) as error:
        return not_read(f"{' '.join(command)}: {error}")
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1]
        return not_read(f"{' '.join(command)} ends with {done.returncode}: {said}")
    return done.stdout
