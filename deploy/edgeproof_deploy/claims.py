"""Claims: is a form what it is called, in the engine that runs it? Proven, refuted, or not known here.

A file with integers in it may be run in floating point, one in half precision with a cast around every layer,
and one with 2:4 weights as if they were dense: what an engine really runs is read from the graph or the list
of kernels that it made, never from the size of a file.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Outcome = Literal["proven", "refuted", "not known here"]
OUTCOMES: tuple[Outcome, ...] = ("proven", "refuted", "not known here")
INT8, HALF, SPARSE_WEIGHTS, SPARSE_KERNELS = "int8", "half precision", "2:4 weights", "2:4 kernels"


@dataclass(frozen=True)
class Claim:
    """One claim about a form.

    Attributes:
        form: `onnxruntime int8`, as parity calls it.
        claim: `int8`, `half precision`, `2:4 weights` or `2:4 kernels`.
        outcome: `proven`, `refuted`, or `not known here`.
        evidence: what was counted, or why nothing could be.
    """

    form: str
    claim: str
    outcome: Outcome
    evidence: str

    def words(self) -> str:
        """Return one line."""
        return f"{self.form}: {self.claim}: {self.outcome} ({self.evidence})"

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)


def claimed(precision: str, sparse: bool) -> tuple[str, ...]:
    """Return what a form claims by its name."""
    numbers = {"int8": (INT8,), "fp16": (HALF,)}.get(precision, ())
    return (*numbers, *((SPARSE_WEIGHTS, SPARSE_KERNELS) if sparse else ()))


def unknown(form: str, precision: str, sparse: bool, reason: str) -> list[Claim]:
    """Return the claims of a form of which nothing can be seen here."""
    return [Claim(form, claim, "not known here", reason) for claim in claimed(precision, sparse)]
