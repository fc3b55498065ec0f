from __future__ import annotations

import io
import os
import pty
import re
from typing import TextIO

import pytest

from edgeproof_configs.progress import Progress, progress


def test_line__rate_and_time_left() -> None:
    shown = Progress("embed", 100, "images", io.StringIO())
    shown.advance(25, note="loss 0.5")
    assert re.fullmatch(r"embed: 25/100 images, \S+/s, \d+ s left, loss 0\.5", shown.line())


def test_line__unknown_total() -> None:
    shown = Progress("scan", None, "files", io.StringIO())
    shown.advance(3)
    assert re.fullmatch(r"scan: 3 files, \S+/s", shown.line())


def test_progress__short_work_prints_nothing() -> None:
    stream = io.StringIO()
    with progress("embed", 10, "images", stream) as shown:
        shown.advance(10)
    assert stream.getvalue() == ""


def everything_of(master: int) -> str:
    """Return all that a terminal was written; one read may give a part of it."""
    found = b""
    while True:
        try:
            part = os.read(master, 65536)
        except OSError:  # Linux says EIO where the other side is closed and nothing is left.
            return found.decode()
        if not part:
            return found.decode()
        found += part


def test_progress__a_bar_on_a_terminal() -> None:
    """The bar is drawn on a terminal and removed at the end, also after an error."""
    master, slave = pty.openpty()

    def broken_off(terminal: TextIO) -> None:
        with progress("embed", 10, "images", terminal) as shown:
            shown.advance(5)
            raise RuntimeError("broken off")

    with os.fdopen(slave, "w") as terminal, pytest.raises(RuntimeError, match="broken off"):
        broken_off(terminal)
    seen = everything_of(master)
    os.close(master)
    assert "embed" in seen
    assert "images" in seen
