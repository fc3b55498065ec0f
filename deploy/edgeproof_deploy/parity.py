"""Parity: the measured difference between two forms of the student on the same images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgeproof_configs.errors import GateError
from edgeproof_deploy.decisions import Decisions, Vocabulary, compare_decisions
from edgeproof_deploy.gates import FAIL, NOT_MEASURED, GateResult, Limits, at_most, gates_of
from edgeproof_deploy.numerics import Numerics, numerics
from edgeproof_deploy.retrieval import Gallery


@dataclass(frozen=True)
class Form:
    """A form of the model and what it gives for the images.

    Attributes:
        form: `teacher`, `student`, ... as the chain calls it.
        engine: what ran it; empty for the teacher.
        precision: fp32, fp16, int8.
        embeddings: (N, D) float32, not normalised; None if it was not run.
        reason: why it was not run.
        edges: (E, D) float32, the same of the edge images; None if they were not run.
        gallery: (G, D) float32, the same of objects that the data have for searches; None if it has none.
    """

    form: str
    engine: str = ""
    precision: str = "fp32"
    embeddings: np.ndarray | None = None
    reason: str = ""
    edges: np.ndarray | None = None
    gallery: np.ndarray | None = None

    @property
    def name(self) -> str:
        """The form in words: `teacher`, `pytorch fp32`, `onnxruntime fp32`."""
        if not self.engine:
            return self.form
        engine = f"{self.engine} {self.precision}"
        return engine if self.form == "student" else f"{self.form} {engine}"

    @property
    def rows(self) -> np.ndarray:
        """The embeddings of a form that was run."""
        assert self.embeddings is not None
        return self.embeddings


@dataclass(frozen=True)
class PairParity:
    """How a candidate differs from its reference.

    Attributes:
        reference: name of the form that is taken as right.
        candidate: name of the form that is judged.
        n: how many images both were run on.
        reason: why nothing was measured, empty where it was.
        numerics: how far the embeddings are apart.
        decisions: how far the answers are apart; None without labels to choose between.
        gates: limits and how they came out.
        edges: `{image, cosine, max_abs}` of each edge image; the figures are None where one is not finite.
    """

    reference: str
    candidate: str
    n: int
    reason: str = ""
    numerics: Numerics | None = None
    decisions: Decisions | None = None
    gates: list[GateResult] = field(default_factory=list)
    edges: list[dict[str, Any]] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, all figures side by side."""
        figures = (asdict(self.numerics) if self.numerics else {}) | (
            asdict(self.decisions) if self.decisions else {}
        )
        return {
            "reference": self.reference,
            "candidate": self.candidate,
            "n": self.n,
            "status": NOT_MEASURED if self.reason else "measured",
            "reason": self.reason,
            **figures,
            "edges": self.edges,
            "gates": [gate.to_dict() for gate in self.gates],
        }


def compare_pair(
    reference: Form,
    candidate: Form,
    limits: Limits,
    vocabulary: Vocabulary | None = None,
    edge_names: Sequence[str] = (),
) -> PairParity:
    """Compare two forms on the same images.

    A form that was not run gives a pair whose figures are absent and whose gates read `not measured`. Images,
    and objects of a gallery, for which a form gives NaN are counted in the gate `finite` and left out of the
    other figures.

    Args:
        reference: taken as right.
        candidate: judged.
        limits: what must hold between the two.
        vocabulary: the labels to choose between; None compares embeddings only.
        edge_names: of the edge images that the forms were run on, in their order.
    """
    if reference.edges is None or candidate.edges is None:
        limits = replace(limits, edge_cosine=None)
    if vocabulary is None or not vocabulary.of_objects:
        limits = replace(limits, map_drop=None)
    a, b = reference.embeddings, candidate.embeddings
    if a is None or b is None:
        reason = candidate.reason if b is None else reference.reason
        absent = gates_of(limits, dict.fromkeys(asdict(limits)))
        return PairParity(reference.name, candidate.name, 0, reason=reason, gates=absent)
    found = numerics(a, b)
    asked = None if vocabulary is None or found.nan == len(a) else vocabulary
    of_teacher = reference.form == "teacher"
    gallery, lost = gallery_of(reference, candidate, vocabulary)
    before = asked.of_teacher() if asked is not None and of_teacher else asked
    decided = None if asked is None or before is None else decide(a, b, asked, before, gallery)
    edges, edge_gates = compare_edges(reference, candidate, edge_names)
    measured = {
        "cosine": found.cosine_min,
        "cosine_mean": found.cosine_mean,
        "mean_abs": found.mean_abs,
        "agreement": decided.agreement if decided else None,
        "zero_shot_drop": decided.drop if decided else None,
        "map_drop": decided.map_drop if decided else None,
        "edge_cosine": min((edge["cosine"] for edge in edges if edge["cosine"] is not None), default=None),
    }
    gates = [at_most("finite", float(found.nan + lost), 0.0), *edge_gates, *gates_of(limits, measured)]
    return PairParity(reference.name, candidate.name, len(a), "", found, decided, gates, edges)


def compare_edges(
    reference: Form, candidate: Form, names: Sequence[str]
) -> tuple[list[dict[str, Any]], list[GateResult]]:
    """Compare what two forms give for the edge images.

    Returns:
        a line for each image, and the gate `edge_finite`: how many of them the candidate gives NaN or
        infinity for, at most 0; both empty where a form was not run on them.
    """
    if reference.edges is None or candidate.edges is None:
        return [], []
    told = []
    for name, a, b in zip(names, reference.edges, candidate.edges, strict=True):
        found = numerics(a[None], b[None])
        told.append({"image": name, "cosine": found.cosine_min, "max_abs": found.max_abs})
    broken = float((~np.isfinite(candidate.edges).all(axis=1)).sum())
    return told, [at_most("edge_finite", broken, 0.0)]


def gallery_of(reference: Form, candidate: Form, vocabulary: Vocabulary | None) -> tuple[Gallery | None, int]:
    """Return what both forms give for the objects that are searched, and how many are lost to NaN.

    None where the data have no gallery.
    """
    a, b = reference.gallery, candidate.gallery
    if vocabulary is None or vocabulary.gallery_labels is None or a is None or b is None:
        return None, 0
    usable = np.isfinite(a).all(axis=1) & np.isfinite(b).all(axis=1)
    return Gallery(a[usable], b[usable], vocabulary.gallery_labels[usable]), int((~usable).sum())


def decide(
    a: np.ndarray,
    b: np.ndarray,
    vocabulary: Vocabulary,
    before: Vocabulary,
    gallery: Gallery | None = None,
) -> Decisions:
    """Compare the decisions on the images for which both forms give finite embeddings.

    Args:
        a: embeddings of the reference.
        b: embeddings of the candidate.
        vocabulary: how the candidate decides.
        before: how the reference does.
        gallery: what the images search; None where they search each other.
    """
    usable = np.flatnonzero(np.isfinite(a).all(axis=1) & np.isfinite(b).all(axis=1))
    if len(usable) == len(a):
        return compare_decisions(a, b, vocabulary, before, gallery)
    return compare_decisions(a[usable], b[usable], vocabulary.only(usable), before.only(usable), gallery)


def gate_failures(pairs: Sequence[PairParity]) -> list[str]:
    """Return every gate that failed, in words that name form, gate, value and limit."""
    return [gate.words(pair.candidate) for pair in pairs for gate in pair.gates if gate.status == FAIL]


def gates_not_measured(pairs: Sequence[PairParity]) -> list[str]:
    """Return every gate that could not be measured, in words, with the reason."""
    return [
        gate.words(pair.candidate) + (f" ({pair.reason})" if pair.reason else "")
        for pair in pairs
        for gate in pair.gates
        if gate.status == NOT_MEASURED
    ]


def raise_gates(pairs: Sequence[PairParity], where: Path, *, strict: bool = False) -> None:
    """Raise if a gate failed or, with `strict`, was not measured.

    Raises:
        GateError: exit code 3, naming up to three gates.
    """
    failed = gate_failures(pairs) + (gates_not_measured(pairs) if strict else [])
    if failed:
        more = f"; and {len(failed) - 3} more" if len(failed) > 3 else ""
        raise GateError("; ".join(failed[:3]) + more, where=where)
