"""Progress of long work: a bar with rate and time left on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

LINE_EVERY_SECONDS = 5.0


class Progress:
    """Counts work done. `advance(n, note)` is called by the worker; drawing is rate-limited."""

    def __init__(self, label: str, total: int | None, unit: str, stream: TextIO):
        self.label, self.total, self.unit, self.stream = label, total, unit, stream
        self.done = 0
        self.note = ""
        self._started = self._drawn = time.monotonic()

    def advance(self, amount: int = 1, note: str = "") -> None:
        """Add finished work and, now and then, print where it stands."""
        self.done += amount
        self.note = note or self.note
        now = time.monotonic()
        if now - self._drawn >= LINE_EVERY_SECONDS:
            self._drawn = now
            print(self.line(), file=self.stream, flush=True)

    def line(self) -> str:
        """Return the state in words: `embed: 640/1649 images, 212/s, 5 s left`."""
        seconds = max(time.monotonic() - self._started, 1e-9)
        rate = self.done / seconds
        of = f"/{self.total}" if self.total else ""
        left = f", {(self.total - self.done) / rate:.0f} s left" if self.total and rate > 0 else ""
        note = f", {self.note}" if self.note else ""
        return f"{self.label}: {self.done}{of} {self.unit}, {rate:.3g}/s{left}{note}"

    def close(self) -> None:
        """Print the last state if anything took long enough to have been printed before."""
        if self._drawn > self._started:
            print(self.line(), file=self.stream, flush=True)


class BarProgress(Progress):
    """The same on a terminal, drawn by rich."""

    def __init__(self, label: str, total: int | None, unit: str, stream: TextIO):
        super().__init__(label, total, unit, stream)
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total} " + unit + " {task.fields[rate]}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        self._bar = RichProgress(*columns, console=Console(file=stream), transient=True)
        self._task = self._bar.add_task(label, total=total, rate="", note="")
        self._bar.start()

    def advance(self, amount: int = 1, note: str = "") -> None:
        """Add finished work to the bar."""
        self.done += amount
        self.note = note or self.note
        rate = self.done / max(time.monotonic() - self._started, 1e-9)
        self._bar.update(self._task, completed=self.done, rate=f"{rate:.3g}/s", note=self.note)

    def close(self) -> None:
        """Remove the bar and leave the terminal clean."""
        self._bar.stop()


@contextmanager
def progress(label: str, total: int | None, unit: str, stream: TextIO | None = None) -> Iterator[Progress]:
    """Show the progress of a block of work on stderr.

    Args:
        label: what is being done.
        total: how many `unit`s there are; None if unknown.
        unit: plural noun for the count.
        stream: where to show it; a bar if it is a terminal.
    """
    shown_on: TextIO = stream or sys.stderr
    shown = (BarProgress if shown_on.isatty() else Progress)(label, total, unit, shown_on)
    try:
        yield shown
    finally:
        shown.close()
