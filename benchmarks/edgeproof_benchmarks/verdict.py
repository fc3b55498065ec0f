"""The one honest sentence on top of the report: what to ship, what it costs, and what was not measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgeproof_benchmarks.compression_words import bought, disappointments, level
from edgeproof_benchmarks.form_gates import failed_gates, is_as_trained
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
from edgeproof_benchmarks.gains import AS_FAST, gain, is_faster, surely
from edgeproof_benchmarks.report_data import Control, FormRow, Gate

SHIP, DO_NOT_SHIP, NOT_PROVEN = "ship", "do not ship", "not proven"
PRECISIONS = ("fp32", "fp16", "int8")
IN_PYTORCH = ("", "pytorch", "pytorch_compiled")
"""Engines of rows that are no form to ship: the teacher's, and those that no bundle holds."""
FAR_BELOW = 0.1
"""A student that loses more top-1 than this to its teacher is recommended only if a gate allows it."""
TEACHER_GATES = ("teacher_drop", "zero_shot_drop")
"""Of the fp32 student in PyTorch: how much it may lose to its teacher."""


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


def judge(rows: Sequence[FormRow], controls: Sequence[Control] = (), item: str = "image") -> Verdict:
    """Choose the form to ship and say what that means.

    A form can be shipped that ran here outside PyTorch, passes a gate of its own and fails none, and is near
    its teacher or held to it by a gate. The gates of the fp32 student in PyTorch hold for every form, those
    of a compressed student in PyTorch for what is made of it. `choose` takes one of several.

    Args:
        rows: the forms.
        controls: what they have to beat.
        item: what a form answers about, `image` or `object`.
    """
    teacher = next((row for row in rows if row.form == "teacher"), None)
    row = choose(
        [one for one in rows if one.form != "teacher" and one.engine not in IN_PYTORCH and one.ran],
        rows,
    )
    caveats = caveats_of(rows, row, teacher, controls)
    if row is None:
        words = "Nothing to ship yet: no form outside PyTorch ran here."
        return Verdict(NOT_PROVEN, words, tuple(caveats), None)
    shared = [gate for one in rows if is_as_trained(one) for gate in one.gates]
    failed = [*(gate for gate in shared if gate.status == "fail"), *failed_gates(row, rows)]
    figures = "; ".join([figures_of(row, teacher, item), *bought(row, rows)])
    if failed:
        status, words = DO_NOT_SHIP, f"Do not ship {row.name}: {failures(failed)}; {figures}."
    elif not any(gate.status == "pass" for gate in row.gates):
        status, words = NOT_PROVEN, f"{row.name} is not proven: no gate was measured; {figures}."
    elif far_below(row, teacher) and not any(gate.name in TEACHER_GATES for gate in shared):
        status, words = NOT_PROVEN, f"{row.name} is what was trained, but far from its teacher: {figures}."
        caveats.append("No gate (gates.teacher_drop) says that this is enough.")
    else:
        status, words = SHIP, f"Ship {row.name}: {figures}."
    return Verdict(status, words, tuple(caveats), row)


def failures(failed: Sequence[Gate]) -> str:
    """Return the gates that failed, at most three of them by name."""
    more = f" and {plural(len(failed) - 3, 'more gate')}" if len(failed) > 3 else ""
    return f"{in_a_row([gate_words(gate) for gate in failed[:3]])}{more} failed"


def far_below(row: FormRow, teacher: FormRow | None) -> bool:
    """Whether a form loses more than `FAR_BELOW` of top-1 accuracy to the teacher."""
    top1 = row.metrics.get("top1")
    before = teacher.metrics.get("top1") if teacher else None
    return top1 is not None and before is not None and before - top1 > FAR_BELOW


def shipped_form(rows: Sequence[FormRow], verdict: str) -> FormRow | None:
    """Return the form that the verdict says to ship, or None where it says not to."""
    return judge(rows).row if verdict == SHIP else None


def choose(candidates: Sequence[FormRow], rows: Sequence[FormRow] = ()) -> FormRow | None:
    """Return the form to ship: of those that fail no gate of their own, or of all if every one fails.

    Whatever no other of them is surely faster than at batch 1, by more than 5 % (`gains.is_faster`), counts
    as the fastest. Of these a dense one goes before a sparse one, then the one of higher precision, for
    rounding has to buy something; then the one with the higher top-1 accuracy (without labels: cosine).

    Args:
        candidates: to choose from.
        rows: all of the run, for the gates of what the candidates were exported from.
    """
    sound = [row for row in candidates if not failed_gates(row, rows)] or list(candidates)
    timed = [row for row in sound if row.latency("p50") is not None]
    fast = [row for row in timed if not any(is_faster(other, row) for other in timed)] or sound
    return min(fast, key=preference, default=None)


def preference(row: FormRow) -> tuple[bool, int, float, float]:
    """Return a key that is smallest for what is to be preferred among forms that are as fast."""
    right = row.metrics.get("top1", row.metrics.get("cosine", 0.0))
    places = PRECISIONS.index(row.precision) if row.precision in PRECISIONS else len(PRECISIONS)
    return row.form == "sparse", places, -right, row.latency("p50") or 0.0


def figures_of(row: FormRow, teacher: FormRow | None, item: str = "image") -> str:
    """Return accuracy against the teacher and latency, as far as they are known."""
    said = []
    top1 = row.metrics.get("top1")
    if known(top1):
        said.append(f"{percent(top1)} top-1")
        if teacher is not None and known(teacher.metrics.get("top1")):
            said.append(level(float(row.metrics["top1"]) - float(teacher.metrics["top1"]), "its teacher"))
    elif known(row.metrics.get("cosine")):
        said.append(f"cosine {cosine(row.metrics['cosine'])} to its teacher")
    latency = row.latency("p50")
    if latency is not None:
        said.append(f"{milliseconds(latency)} p50 an {item}{speed_up(row, teacher)}")
    return ", ".join(said) or "neither accuracy nor latency was measured"


def speed_up(row: FormRow, teacher: FormRow | None) -> str:
    """Return ` (14 times faster than its teacher)` where both were timed."""
    ratio, least = gain(row, teacher), surely(row, teacher)
    if ratio is None or least is None:
        return ""
    if least > AS_FAST:
        return (
            f" ({ratio:.1f} times faster than its teacher)" if ratio < 10 else f" ({ratio:.0f} times faster)"
        )
    if ratio > AS_FAST:
        return " (not surely faster than its teacher)"
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
            and not is_as_trained(other)
        ):
            names = in_a_row([gate_words(gate) for gate in other.gates if gate.status == "fail"])
            said.append(f"{other.name} failed: {names}.")
    said += disappointments(rows, row)
    said += only_built([other for other in rows if not other.ran])
    said.append(count_gates([gate for other in rows for gate in other.gates]))
    return said


def only_built(rows: Sequence[FormRow]) -> list[str]:
    """Return a sentence for each engine with the forms that were built for it and not run."""
    said = []
    for engine in dict.fromkeys(row.engine for row in rows):
        forms = [row for row in rows if row.engine == engine]
        title = forms[0].engine_name
        names = [row.name.removeprefix(f"{title} ") for row in forms]
        which = f"{title} {names[0]} was" if len(names) == 1 else f"{title} ({in_a_row(names)}) was"
        said.append(f"{which} built, not run here.")
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
    """Return a sentence for each control that the form does not beat on the same images."""
    top1 = row.metrics.get("top1") if row else None
    if row is None or top1 is None:
        return []
    beaten = [
        (one.form, one.metrics["top1"])
        for one in controls
        if "top1" in one.metrics and one.metrics["top1"] >= top1 and same_images(one.metrics, row.metrics)
    ]
    return [f"The control '{form}' reaches {percent(other)}: no worse." for form, other in beaten]


def same_images(one: Mapping[str, float], other: Mapping[str, float]) -> bool:
    """Whether two sets of metrics were counted on as many images, as far as that is known."""
    return "images" not in one or "images" not in other or one["images"] == other["images"]


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
