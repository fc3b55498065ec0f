"""The one honest sentence on top of the report: what to ship, what it costs, and what was not measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgeproof_benchmarks.formats import (
    MINUS,
    MISSING,
    cosine,
    in_a_row,
    known,
    milliseconds,
    percent,
    plural,
)
from edgeproof_benchmarks.report_data import Control, FormRow, Gate

SHIP, DO_NOT_SHIP, NOT_PROVEN = "ship", "do not ship", "not proven"


@dataclass(frozen=True)
class Verdict:
    """What follows from the rows.

    Attributes:
        status: `ship`, `do not ship` or `not proven`.
        sentence: one sentence with the figures that matter.
        caveats: what the sentence leaves out, each a sentence of its own.
        row: the form that the sentence is about, if any.
    """

    status: str
    sentence: str
    caveats: tuple[str, ...]
    row: FormRow | None


def judge(rows: Sequence[FormRow], controls: Sequence[Control] = ()) -> Verdict:
    """Choose the form to ship and say what that means.

    A form can be shipped that ran here outside PyTorch, has a gate that was measured, and fails none; the
    gates of the fp32 student in PyTorch hold for every form. Of several, the fastest at batch 1 is chosen.
    """
    teacher = next((row for row in rows if row.form == "teacher"), None)
    shared = [gate for row in rows if row.engine == "pytorch" and row.form != "teacher" for gate in row.gates]
    forms = [row for row in rows if row.form != "teacher" and row.engine not in ("", "pytorch")]
    candidates = [row for row in forms if row.ran]
    row = choose(candidates)
    caveats = tuple(caveats_of(rows, row, teacher, controls))
    if row is None:
        return Verdict(NOT_PROVEN, "Nothing to ship yet: no form outside PyTorch ran here.", caveats, None)
    gates = [*shared, *row.gates]
    failed = [gate for gate in gates if gate.status == "fail"]
    figures = figures_of(row, teacher)
    if failed:
        reasons = in_a_row([gate_words(gate) for gate in failed[:3]])
        more = f" and {plural(len(failed) - 3, 'more gate')}" if len(failed) > 3 else ""
        return Verdict(
            DO_NOT_SHIP, f"Do not ship {row.name}: {reasons}{more} failed; {figures}.", caveats, row
        )
    if not any(gate.status == "pass" for gate in row.gates):
        return Verdict(
            NOT_PROVEN, f"{row.name} is not proven: no gate was measured; {figures}.", caveats, row
        )
    return Verdict(SHIP, f"Ship {row.name}: {figures}.", caveats, row)


def shipped_form(rows: Sequence[FormRow], verdict: str) -> FormRow | None:
    """Return the form that the verdict says to ship, or None where it says not to."""
    return judge(rows).row if verdict == SHIP else None


def choose(candidates: Sequence[FormRow]) -> FormRow | None:
    """Return the fastest of the forms that fail no gate of their own, or of all if every one fails."""
    sound = [row for row in candidates if not any(gate.status == "fail" for gate in row.gates)]

    def preference(row: FormRow) -> tuple[float, float]:
        latency = row.latency("p50")
        return (float("inf") if latency is None else latency, -row.metrics.get("top1", 0.0))

    return min(sound or candidates, key=preference, default=None)


def figures_of(row: FormRow, teacher: FormRow | None) -> str:
    """Return accuracy against the teacher and latency, as far as they are known."""
    said = []
    top1 = row.metrics.get("top1")
    if known(top1):
        said.append(f"{percent(top1)} top-1")
        if teacher is not None and known(teacher.metrics.get("top1")):
            said.append(against(float(row.metrics["top1"]) - float(teacher.metrics["top1"]), "its teacher"))
    elif known(row.metrics.get("cosine")):
        said.append(f"cosine {cosine(row.metrics['cosine'])} to its teacher")
    latency = row.latency("p50")
    if latency is not None:
        said.append(f"{milliseconds(latency)} p50 an image{speed_up(latency, teacher)}")
    return ", ".join(said) or "neither accuracy nor latency was measured"


def against(difference: float, whom: str) -> str:
    """Return `0.3 points below its teacher`, from a difference of fractions."""
    rounded = round(100 * difference, 1)
    if rounded == 0:
        return f"level with {whom}"
    unit = "point" if abs(rounded) == 1 else "points"
    return f"{abs(rounded):.1f} {unit} {'above' if rounded > 0 else 'below'} {whom}"


def speed_up(latency: float, teacher: FormRow | None) -> str:
    """Return ` (14 times faster than its teacher)` where the teacher was timed."""
    before = teacher.latency("p50") if teacher else None
    if before is None:
        return ""
    ratio = before / latency
    if ratio >= 1.05:
        return (
            f" ({ratio:.1f} times faster than its teacher)" if ratio < 10 else f" ({ratio:.0f} times faster)"
        )
    return " (no faster than its teacher)" if ratio < 0.95 else " (as fast as its teacher)"


def caveats_of(
    rows: Sequence[FormRow], row: FormRow | None, teacher: FormRow | None, controls: Sequence[Control]
) -> list[str]:
    """Return what a reader would want to know before believing the sentence."""
    said = [accuracy for accuracy in (held_out(row, teacher), *compared(row, controls)) if accuracy]
    for other in rows:
        if (
            other is not row
            and any(gate.status == "fail" for gate in other.gates)
            and other.engine != "pytorch"
        ):
            names = in_a_row([gate_words(gate) for gate in other.gates if gate.status == "fail"])
            said.append(f"{other.name} failed: {names}.")
    built = [other.name for other in rows if not other.ran]
    if built:
        said.append(f"{in_a_row(built)} {'was' if len(built) == 1 else 'were'} built, not run here.")
    said.append(count_gates([gate for other in rows for gate in other.gates]))
    return said


def held_out(row: FormRow | None, teacher: FormRow | None) -> str:
    """Return the accuracy on classes that training never saw."""
    unseen = row.metrics.get("unseen") if row else None
    if not known(unseen):
        return ""
    same = teacher.metrics.get("unseen") if teacher else None
    beside = f" (teacher {percent(same)})" if known(same) else ""
    return f"On classes held out of training: {percent(unseen)}{beside}."


def compared(row: FormRow | None, controls: Sequence[Control]) -> list[str]:
    """Return a sentence for each control that the form does not beat."""
    top1 = row.metrics.get("top1") if row else None
    if top1 is None or not known(top1):
        return []
    beaten = [(one.form, one.metrics["top1"]) for one in controls if known(one.metrics.get("top1"))]
    return [
        f"The control '{form}' reaches {percent(other)}: no worse." for form, other in beaten if other >= top1
    ]


def count_gates(gates: Sequence[Gate]) -> str:
    """Return how many gates passed, failed and could not be measured."""
    if not gates:
        return "No gate was set."
    passed, failed = (sum(gate.status == status for gate in gates) for status in ("pass", "fail"))
    unmeasured = len(gates) - passed - failed
    tail = f", {unmeasured} not measured" if unmeasured else ""
    return f"{plural(passed, 'gate')} passed, {failed or 'none'} failed{tail}."


def gate_words(gate: Gate) -> str:
    """Return `cosine 0.91 (at least 0.99)`."""
    limit = f"{gate.bound or 'limit'} {gate_figure(gate, gate.limit)}"
    return f"{gate.name} {gate_figure(gate, gate.value)} ({limit})"


def gate_figure(gate: Gate, value: float | None) -> str:
    """Return a gate's value or limit in the form that its name asks for."""
    if value is None or not known(value):
        return MISSING
    if gate.name.endswith("_ms"):
        return milliseconds(value)
    return f"{value:.7g}".replace("-", MINUS)
