"""What a look at a file finds."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Level = Literal["error", "warning", "info"]


@dataclass(frozen=True)
class Finding:
    """One thing that is to be said about a graph.

    Attributes:
        node: its name, or its output's where it has none; empty for the file as a whole.
        rule: the name of what was looked for.
        level: `error`: the engine refuses the file or gives garbage; `warning`: slower or less accurate than
            it can be; `info`: to know.
        message: what is there.
        cost: what it costs.
        fix: what to do.
    """

    node: str
    rule: str
    level: Level
    message: str
    cost: str
    fix: str

    def words(self) -> str:
        """Return one line."""
        place = f"{self.node}: " if self.node else ""
        return f"{self.level}: {place}{self.message} ({self.cost}); {self.fix}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)
