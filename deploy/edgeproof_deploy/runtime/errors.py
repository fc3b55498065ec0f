"""What can go wrong on the device, in words. Each class carries the exit code of the command line."""

from __future__ import annotations

LONGEST_REASON = 500


class BundleError(Exception):
    """The bundle is incomplete, damaged or was changed: `name` says which file, `reason` says why.

    Both may quote what a damaged file says; of that no more is kept than can be read.
    """

    exit_code = 1

    def __init__(self, name: str, reason: str):
        super().__init__(name, reason)
        self.name = name if len(name) <= LONGEST_REASON else f"{name[:LONGEST_REASON]}…"
        self.reason = reason if len(reason) <= LONGEST_REASON else f"{reason[:LONGEST_REASON]}…"

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}"


class LabelError(ValueError):
    """Labels were asked for that the bundle has no embeddings of."""

    exit_code = 2


class RequestError(ValueError):
    """Something was asked for that the bundle is not made for."""

    exit_code = 2


class UnavailableError(Exception):
    """A package or a device that was asked for cannot be used here."""

    exit_code = 5
