"""Errors that a user sees: what was wrong, where, and what to do next.

Each class carries the exit code of the command line: 1 failure at run time, 2 bad recipe or usage,
3 accuracy or parity gate failed, 4 latency gate failed, 5 a package or a device is missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches


class EdgeproofError(Exception):
    """A failure that is explained in at most three lines: `what`, `where`, `fix`."""

    exit_code = 1

    def __init__(self, what: str, *, where: object = None, fix: str | None = None):
        super().__init__(what)
        self.what = what
        self.where = None if where is None else str(where)
        self.fix = fix

    def lines(self) -> list[str]:
        """Return the lines to print, without colour."""
        lines = [f"error: {self.what}"]
        if self.where:
            lines.append(f"  at: {self.where}")
        if self.fix:
            lines.append(f"  do: {self.fix}")
        return lines

    def __str__(self) -> str:
        return "\n".join(self.lines())


class UsageError(EdgeproofError):
    """A command was called with arguments that cannot work."""

    exit_code = 2


class DataError(EdgeproofError):
    """The user's images, labels or embeddings are not usable."""


class GateError(EdgeproofError):
    """A shipped form of the student is not close enough to the fp32 student."""

    exit_code = 3


class LatencyGateError(EdgeproofError):
    """An engine is slower than the recipe allows."""

    exit_code = 4


class MissingPackageError(EdgeproofError):
    """A package or a device that this step needs is not there."""

    exit_code = 5


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong in a recipe."""

    file: str
    line: int | None
    key: str
    message: str

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{place}: {self.key}: {self.message}" if self.key else f"{place}: {self.message}"


class RecipeError(UsageError):
    """Everything that is wrong with a recipe, all at once."""

    def __init__(self, problems: Sequence[Problem]):
        self.problems = list(problems)
        super().__init__(f"{len(self.problems)} problem{'s' * (len(self.problems) != 1)} in the recipe")

    def lines(self) -> list[str]:
        """Return a line for each problem."""
        return [str(problem) for problem in self.problems]


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """Return ` Did you mean 'x'?` for the nearest known word, or an empty string."""
    near = get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f" Did you mean '{near[0]}'?" if near else ""
