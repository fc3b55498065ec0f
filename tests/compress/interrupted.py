"""Ending a training of a test as a crash would: after so many batches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from edgeproof_data.loader import TrainLoader


class StopError(Exception):
    """Stands for whatever ends a process."""


def stop_after(monkeypatch: pytest.MonkeyPatch, batches: int) -> None:
    """End the training after so many batches."""
    epoch, seen = TrainLoader.epoch, 0

    def stopping(self: TrainLoader, number: int, start_step: int = 0) -> Iterator[Any]:
        nonlocal seen
        for batch in epoch(self, number, start_step):
            if seen == batches:
                raise StopError
            seen += 1
            yield batch

    monkeypatch.setattr(TrainLoader, "epoch", stopping)
