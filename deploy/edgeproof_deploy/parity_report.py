"""`parity.json`: written after every comparison, read again by a build server or another machine."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeproof_configs.errors import EdgeproofError
from edgeproof_configs.files import write_json
from edgeproof_deploy.claims import OUTCOMES, Claim
from edgeproof_deploy.gates import FAIL, NOT_MEASURED, PASS, GateResult
from edgeproof_deploy.parity import PairParity

if TYPE_CHECKING:
    # It compares with training's loader, and a bundle is verified without torch.
    from edgeproof_deploy.preprocessing_parity import PreprocessingParity

SCHEMA_VERSION = 1
STATUSES, BOUNDS = (PASS, FAIL, NOT_MEASURED), ("at least", "at most")
LARGEST_BYTES = 256_000_000


@dataclass(frozen=True)
class Judged:
    """Something that has gates.

    Attributes:
        name: `pytorch fp32 -> onnxruntime fp32`, or `preprocessing`.
        gates: limits and how they came out.
        reason: why nothing was measured, empty where it was.
    """

    name: str
    gates: Sequence[GateResult]
    reason: str = ""

    def words(self, gate: GateResult) -> str:
        """Return a gate in words, with the reason where it was not measured."""
        why = f" ({self.reason})" if gate.status == NOT_MEASURED and self.reason else ""
        return gate.words(self.name) + why


@dataclass(frozen=True)
class Parity:
    """Everything that was compared, ready to be told.

    Attributes:
        judged: the preprocessing first, then a line for each pair.
        claims: whether INT8, half precision and sparsity are what they are called.
    """

    judged: Sequence[Judged]
    claims: Sequence[Claim] = ()

    def of(self, *statuses: str) -> list[tuple[Judged, GateResult]]:
        """Return the gates that came out so, with what they judge."""
        return [(one, gate) for one in self.judged for gate in one.gates if gate.status in statuses]


def parity_of(
    pairs: Sequence[PairParity],
    preprocessing: PreprocessingParity | None = None,
    claims: Sequence[Claim] = (),
) -> Parity:
    """Return what is to be told about comparisons."""
    first = [Judged("preprocessing", [preprocessing.gate])] if preprocessing else []
    return Parity(
        [*first, *(Judged(f"{p.reference} -> {p.candidate}", p.gates, p.reason) for p in pairs)], claims
    )


def write_parity(
    path: Path,
    pairs: Sequence[PairParity],
    preprocessing: PreprocessingParity | None,
    environment: dict[str, Any],
    claims: Sequence[Claim] = (),
) -> None:
    """Write `parity.json`: every pair, the preprocessing, the claims, and where it was measured."""
    write_json(
        path,
        {
            "schema_version": SCHEMA_VERSION,
            "environment": environment,
            "preprocessing": preprocessing.to_dict() if preprocessing else None,
            "pairs": [pair.to_dict() for pair in pairs],
            "claims": [claim.to_dict() for claim in claims],
        },
    )


def read_parity(path: Path) -> Parity:
    """Read a `parity.json`.

    Raises:
        EdgeproofError: it is none, is damaged, or was written by another version.
    """
    try:
        if path.stat().st_size > LARGEST_BYTES:
            raise ValueError(f"it is larger than {LARGEST_BYTES // 1_000_000} MB")
        return parse_parity(path.read_bytes())
    except OSError as error:
        raise EdgeproofError(f"cannot be read: {error.strerror}", where=path) from error
    except ValueError as error:
        raise EdgeproofError(
            f"not a readable parity.json: {error}", where=path, fix="run `edgeproof verify` again"
        ) from error


def parse_parity(data: bytes) -> Parity:
    """Return what the bytes of a `parity.json` say.

    Raises:
        ValueError: they are no JSON, a part is missing or of the wrong kind, or the version is another.
    """
    try:
        plain = json.loads(data)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    version = _part(plain, "schema_version", int, "the file")
    if version != SCHEMA_VERSION:
        raise ValueError(f"it has schema version {version}, this edgeproof reads {SCHEMA_VERSION}")
    judged = []
    if plain.get("preprocessing") is not None:
        judged.append(Judged("preprocessing", list(_gates(plain["preprocessing"], "preprocessing"))))
    for number, pair in enumerate(_part(plain, "pairs", list, "the file")):
        place = f"pair {number}"
        name = f"{_part(pair, 'reference', str, place)} -> {_part(pair, 'candidate', str, place)}"
        reason = _part(pair, "reason", str, place) if "reason" in pair else ""
        judged.append(Judged(name, list(_gates(pair, place)), reason))
    claims = _part(plain, "claims", list, "the file") if "claims" in plain else []
    return Parity(judged, [_claim(claim, f"claim {i}") for i, claim in enumerate(claims)])


def _gates(plain: Any, place: str) -> Iterator[GateResult]:
    for number, gate in enumerate(_part(plain, "gates", list, place)):
        at = f"{place}, gate {number}"
        name, limit = _part(gate, "name", str, at), _part(gate, "limit", (int, float), at)
        value = None if gate.get("value") is None else _part(gate, "value", (int, float), at)
        status = _one_of(gate, "status", STATUSES, at)
        bound: Any = _one_of(gate, "bound", BOUNDS, at)
        if (value is None) != (status == NOT_MEASURED):
            raise ValueError(f"{at}: its status is '{status}' and its value {value}")
        yield GateResult(name, value, limit, status, bound)


def _claim(plain: Any, place: str) -> Claim:
    texts = {key: _part(plain, key, str, place) for key in ("form", "claim", "evidence")}
    return Claim(outcome=_one_of(plain, "outcome", OUTCOMES, place), **texts)


def _part(plain: Any, key: str, kind: Any, place: str) -> Any:
    if not isinstance(plain, Mapping) or key not in plain:
        raise ValueError(f"{place} has no '{key}'")
    value = plain[key]
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ValueError(f"{place}: '{key}' is {str(value)[:60]!r}")
    if isinstance(value, (int, float)) and not _fits(value):
        raise ValueError(f"{place}: '{key}' is no finite number")
    return value


def _fits(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _one_of(plain: Any, key: str, allowed: Sequence[str], place: str) -> Any:
    value = _part(plain, key, str, place)
    if value not in allowed:
        raise ValueError(f"{place}: '{key}' is {value[:60]!r}, expected one of {', '.join(allowed)}")
    return value
