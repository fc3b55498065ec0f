"""Gates: what a form may lose against the one it is compared with, and how that came out."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from edgeproof_configs.schema import GatesConfig

PASS, FAIL, NOT_MEASURED = "pass", "fail", "not measured"
Step = Literal["distil", "sparsify", "quantize", "export", "engine", "shipped", "shipped sparse"]
MOVED = ("sparsify", "shipped sparse")
"""Steps after which embeddings are not those of before, only as good: their cosine is not judged."""


@dataclass(frozen=True)
class Limits:
    """What must hold for a pair; None: not asked for.

    Attributes:
        cosine: smallest cosine of any image's two embeddings, at least.
        cosine_mean: mean of these cosines, at least; for INT8, where single images are far and most are near.
        mean_abs: mean absolute difference of the numbers of an embedding, at most.
        agreement: share of images with the same best label, ties excepted, at least.
        zero_shot_drop: top-1 accuracy lost, ties excepted, at most.
        map_drop: mean average precision lost in a search among objects, at most; of images it is not asked.
        edge_cosine: as `cosine`, of the edge images; None for INT8, whose ranges were taken from photos.
    """

    cosine: float | None = None
    cosine_mean: float | None = None
    mean_abs: float | None = None
    agreement: float | None = None
    zero_shot_drop: float | None = None
    map_drop: float | None = None
    edge_cosine: float | None = None


DEFAULTS: dict[tuple[Step, str], Limits] = {
    ("distil", "fp32"): Limits(),
    ("sparsify", "fp32"): Limits(zero_shot_drop=0.01, map_drop=0.01),
    ("quantize", "int8"): Limits(agreement=0.95, zero_shot_drop=0.01, map_drop=0.01),
    ("export", "fp32"): Limits(
        cosine=0.99999, agreement=1.0, zero_shot_drop=0.0, map_drop=0.001, edge_cosine=0.9999
    ),
    ("engine", "fp32"): Limits(mean_abs=1e-4, agreement=0.999, map_drop=0.001, edge_cosine=0.9999),
    ("engine", "fp16"): Limits(
        cosine=0.999, mean_abs=1e-2, agreement=0.995, map_drop=0.005, edge_cosine=0.99
    ),
    ("engine", "int8"): Limits(cosine_mean=0.99, agreement=0.95, map_drop=0.01),
    ("export", "int8"): Limits(cosine=0.999, agreement=0.99, map_drop=0.01),
    ("shipped", "int8"): Limits(cosine_mean=0.99, agreement=0.95, zero_shot_drop=0.01, map_drop=0.01),
    ("shipped sparse", "fp32"): Limits(zero_shot_drop=0.01, map_drop=0.01),
    ("shipped sparse", "int8"): Limits(zero_shot_drop=0.01, map_drop=0.01),
}
"""By step of the chain and precision. `distil`: teacher to student; `sparsify`: student to sparse student;
`quantize`: a student to itself with simulated rounding; `export`: PyTorch to ONNX Runtime; `engine`: to
another engine, from PyTorch, or from ONNX Runtime on the same file; `shipped`: fp32 student to an engine."""

MEANINGS = {
    "finite": "embeddings with NaN or infinity",
    "edge_finite": "embeddings of edge images with NaN or infinity",
    "pixels": "images whose pixels are others",
    "preprocessing": "largest difference of a value",
}
"""What the gates measure whose names do not say it."""


@dataclass(frozen=True)
class GateResult:
    """A limit, what was measured, and how it came out.

    Attributes:
        value: None where it was not measured.
        limit: what is allowed.
        status: `pass`, `fail` or `not measured`.
        bound: whether the value must be `at least` or `at most` the limit.
    """

    name: str
    value: float | None
    limit: float
    status: str
    bound: Literal["at least", "at most"] = "at least"

    def words(self, form: str) -> str:
        """Return `onnxruntime fp32: cosine is 0.91, must be at least 0.99999`."""
        measured = NOT_MEASURED if self.value is None else self.shown
        meaning = f" ({MEANINGS[self.name]})" if self.name in MEANINGS else ""
        return f"{form}: {self.name} is {measured}{meaning}, must be {self.bound} {self.limit:.7g}"

    @property
    def shown(self) -> str:
        """The value in seven digits, or in all of them where a failed one would look like its limit."""
        if self.value is None:
            return ""
        short = f"{self.value:.7g}"
        return repr(self.value) if self.status == FAIL and short == f"{self.limit:.7g}" else short

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)


def limits_of(step: Step, precision: str, gates: GatesConfig) -> Limits:
    """Return the defaults of a pair with what the recipe says instead."""
    defaults = DEFAULTS[step, precision]
    if step == "distil":
        return replace(defaults, zero_shot_drop=gates.teacher_drop)
    drops = {"zero_shot_drop": gates.zero_shot_drop, "map_drop": gates.map_drop}
    own = {"cosine": gates.cosine, "agreement": gates.agreement, **drops}
    if gates.cosine is not None and defaults.edge_cosine is not None:
        own["edge_cosine"] = min(gates.cosine, defaults.edge_cosine)
    if step == "quantize" or defaults.cosine_mean is not None:
        own["cosine_mean"] = own.pop("cosine")
    if step in MOVED:
        own = drops
    return replace(defaults, **{name: value for name, value in own.items() if value is not None})


def at_least(name: str, value: float | None, limit: float) -> GateResult:
    """Return the gate that a value must not be below."""
    return _gate(name, value, limit, value is not None and value >= limit, "at least")


def at_most(name: str, value: float | None, limit: float) -> GateResult:
    """Return the gate that a value must not be above."""
    return _gate(name, value, limit, value is not None and value <= limit, "at most")


def _gate(
    name: str, value: float | None, limit: float, holds: bool, bound: Literal["at least", "at most"]
) -> GateResult:
    status = NOT_MEASURED if value is None else PASS if holds else FAIL
    return GateResult(name, value, limit, status, bound)


def gates_of(limits: Limits, measured: dict[str, float | None]) -> list[GateResult]:
    """Return a gate for each limit that is set.

    Args:
        limits: what must hold.
        measured: by the names of `Limits`; None where it could not be measured.
    """
    rules = {
        "cosine": at_least,
        "cosine_mean": at_least,
        "mean_abs": at_most,
        "agreement": at_least,
        "zero_shot_drop": at_most,
        "map_drop": at_most,
        "edge_cosine": at_least,
    }
    wanted = asdict(limits)
    return [
        rule(name, measured[name], wanted[name]) for name, rule in rules.items() if wanted[name] is not None
    ]
