"""What is known of the accuracy of a bundle's models: from its `parity.json`, or the run's `result.json`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeproof_benchmarks.formats import percent
from edgeproof_configs.files import read_json
from edgeproof_deploy.bundle import tampered
from edgeproof_deploy.runtime.bundle import Bundle
from edgeproof_deploy.runtime.errors import BundleError

AS_TRAINED = "pytorch fp32"
PARITY = "parity.json"
BUDGETED = ("zero_shot_drop", "latency_p90_ms")
"""Gates whose place the budget of the advice takes."""


@dataclass(frozen=True)
class Score:
    """The accuracy of a model, and what it loses against the fp32 student.

    Attributes:
        top1: accuracy; None where the images had no labels, or it was not measured.
        drop: top-1 of the fp32 student less its own; without labels, the share of decisions that differ.
        interval: of the drop, 95 %; None where it was not measured against the fp32 student.
        labelled: whether `drop` is of accuracies, and not of decisions.
        failed: gates of parity that it failed.
        borrowed_from: the model that it was really measured for; empty where that is the model itself.
    """

    top1: float | None = None
    drop: float | None = None
    interval: tuple[float, float] | None = None
    labelled: bool = True
    failed: tuple[str, ...] = ()
    borrowed_from: str = ""

    @property
    def measured(self) -> bool:
        """Whether anything is known."""
        return self.drop is not None

    def why_not(self, max_drop: float) -> str:
        """Return why this is not accurate enough, or nothing."""
        if self.drop is None:
            return "its accuracy was not measured"
        if self.failed:
            return f"failed {', '.join(self.failed)}"
        if self.drop > max_drop + 1e-12:
            return f"loses {self.drop_words()} points, {100 * max_drop:.3g} are allowed"
        return ""

    def drop_words(self) -> str:
        """Return the drop in points, below zero where it gains; a dash where it is not known."""
        return "-" if self.drop is None else f"{100 * self.drop + 0.0:.2f}"

    def words(self, max_drop: float) -> str:
        """Return accuracy and drop with its interval, for the sentence."""
        allowed = f"{100 * max_drop:.3g} allowed"
        if not self.labelled:
            return f"{self.drop_words()} % of its decisions differ from the fp32 student's ({allowed})"
        ends = self.interval
        within = (
            f", 95 % interval of the loss {100 * ends[0] + 0.0:.2f} to {100 * ends[1] + 0.0:.2f}"
            if ends
            else ""
        )
        side = "below" if (self.drop or 0.0) >= 0 else "above"
        points = f"{100 * abs(self.drop or 0.0):.2f} points {side} the fp32 student"
        return f"{percent(self.top1)} top-1, {points} ({allowed}{within})"

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        plain = {key: value for key, value in self.__dict__.items() if key not in ("failed", "interval")}
        interval = None if self.interval is None else list(self.interval)
        return plain | {"failed": list(self.failed), "interval": interval}


def scores_of(place: Path, bundle: Bundle) -> dict[str, Score]:
    """Return the score of every model that was scored, by name, such as `onnxruntime int8`.

    Args:
        place: a run, whose `result.json` is read where it has one, or a bundle.
        bundle: the bundle itself.

    Raises:
        EdgeproofError: `parity.json` was changed, or a file is cut.
    """
    result = place / "result.json"
    if result.is_file():
        return scores_of_pairs(pair for row in read_json(result)["rows"] for pair in row.get("parity") or ())
    try:
        return scores_of_pairs(bundle.read_json(PARITY)["pairs"])
    except BundleError as error:
        raise tampered(error, bundle.path) from error


def scores_of_pairs(pairs: Iterable[Mapping[str, Any]]) -> dict[str, Score]:
    """Return the scores of the candidates of pairs; all pairs of one candidate count for its gates.

    The failures of a compressed student in PyTorch count for what was exported of it.
    """
    measured = [pair for pair in pairs if pair["candidate"] != "teacher" and pair.get("n")]
    found: dict[str, Score] = {}
    before = next((top1_of(pair) for pair in measured if pair["candidate"] == AS_TRAINED), None)
    for name in dict.fromkeys(pair["candidate"] for pair in measured):
        own = [pair for pair in measured if pair["candidate"] == name]
        origin = [pair for pair in measured if pair["candidate"] == in_pytorch(name) != AS_TRAINED]
        failed = [
            gate["name"]
            for pair in (*own, *origin)
            for gate in pair["gates"]
            if gate["status"] == "fail" and gate["name"] not in BUDGETED
        ]
        found[name] = score_of_pairs(own, before, tuple(dict.fromkeys(failed)))
    return found


def score_of_pairs(own: list[Mapping[str, Any]], before: float | None, failed: tuple[str, ...]) -> Score:
    """Return the score of one candidate from its pairs; `before` is the top-1 of the fp32 student."""
    direct = next((pair for pair in own if pair["reference"] == AS_TRAINED), None)
    if direct is not None and direct.get("drop") is not None:
        ends = direct.get("interval")
        interval = (-ends[1], -ends[0]) if ends else None
        return Score(top1_of(direct), direct["drop"], interval, failed=failed)
    top1 = top1_of(own[0])
    if top1 is not None and before is not None:
        return Score(top1, before - top1, failed=failed)
    agreement = None if direct is None else direct.get("top1_agreement")
    if agreement is not None:
        return Score(drop=1 - agreement, labelled=False, failed=failed)
    return Score(top1, failed=failed)


def top1_of(pair: Mapping[str, Any]) -> float | None:
    """Return the top-1 accuracy of a pair's candidate."""
    return ((pair.get("metrics") or {}).get("candidate") or {}).get("top1")


def in_pytorch(name: str) -> str:
    """Return what the same form is called in PyTorch."""
    *form, _, precision = name.split()
    return " ".join([*form, "pytorch", precision])
