"""`advise`: which engine and precision to ship on this machine, under a budget of accuracy and latency.

Latencies are measured here, in alternating rounds. Accuracies are those of the bundle's `parity.json` or of
the run's `result.json`; an engine that was not scored there stands in with the accuracy of the same precision
in another one, and the sentence says so.
"""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgeproof.accuracies import AS_TRAINED, Score, scores_of
from edgeproof.bundle_bench import Measured, measure_models
from edgeproof.bundles import bundle_of
from edgeproof_benchmarks.formats import milliseconds, percent
from edgeproof_benchmarks.gains import gain, is_faster
from edgeproof_benchmarks.machine.conditions import stamp
from edgeproof_benchmarks.record import table_of
from edgeproof_benchmarks.report_data import FormRow
from edgeproof_benchmarks.verdict import choose
from edgeproof_configs.run import environment
from edgeproof_deploy.bundle_models import Model, Opened, open_models, skipped_lines

SCHEMA_VERSION = 1
FITS, NOT_ACCURATE, NOT_FAST = 0, 3, 4
"""Exit codes: something fits, nothing is accurate enough, nothing that is accurate is fast enough."""


@dataclass(frozen=True)
class AdviceOptions:
    """The budget and how to measure.

    Attributes:
        max_drop: top-1 that may be lost against the fp32 student, a fraction.
        max_latency_ms: the slowest p90 of one image; None allows any.
        seconds: for each model, over all rounds.
        engines: choose among these only; none: all that run here.
        threads: threads within one operator; None leaves the choice to the engines.
        rebuild: build plans that do not fit this machine.
        as_json: print one JSON document.
    """

    max_drop: float = 0.01
    max_latency_ms: float | None = None
    seconds: float = 2.0
    engines: tuple[str, ...] = ()
    threads: int | None = None
    rebuild: bool = False
    as_json: bool = False


@dataclass(frozen=True)
class Candidate:
    """A model that ran here, with its score and what keeps it from fitting.

    Attributes:
        row: as the verdict reads it.
        score: its accuracy, as far as it is known.
        inaccurate: why it is not accurate enough; empty where it is.
        slow: why it is not fast enough; empty where it is.
    """

    row: FormRow
    model: Model
    score: Score
    inaccurate: str
    slow: str

    @property
    def fits(self) -> bool:
        """Whether it is within the whole budget."""
        return not self.inaccurate and not self.slow


@dataclass(frozen=True)
class Advice:
    """What to ship, in a sentence, and the exit code."""

    chosen: Candidate | None
    sentence: str
    exit_code: int


def advise(place: Path, options: AdviceOptions = AdviceOptions()) -> int:
    """Measure what a bundle holds, print the table and the advice, and return the exit code.

    Args:
        place: a bundle, or a run that has one.
        options: the budget and how to measure.

    Raises:
        UsageError: there is no bundle, or no such engine.
        EdgeproofError: a file of it was changed.
        MissingPackageError: nothing of it runs here.
    """
    with ExitStack() as stack:
        opened = open_models(
            bundle_of(place), stack, options.threads, engines=options.engines, rebuild=options.rebuild
        )
        scores = scores_of(place, opened.bundle)
        measured = measure_models(opened, (1,), options.seconds)
    candidates = candidates_of(opened, measured, scores, options)
    advice = advice_of(candidates, options)
    if options.as_json:
        plain = as_plain(opened, measured, candidates, advice, options)
        print(json.dumps(plain, indent=2, ensure_ascii=False))
    else:
        lines = [*as_table(candidates), "", *skipped_lines(opened.skipped)]
        print("\n".join([*lines, advice.sentence, stamp(measured.conditions)]))
    return advice.exit_code


def candidates_of(
    opened: Opened, measured: Measured, scores: dict[str, Score], options: AdviceOptions
) -> list[Candidate]:
    """Return every model that ran here, judged against the budget."""
    found = []
    for model in opened.sessions:
        latency = measured.latencies[model.name][1]
        score = score_of(model, scores)
        row = FormRow(
            model.form,
            model.engine,
            model.precision,
            metrics={} if score.top1 is None else {"top1": score.top1},
            latency_ms={1: latency.to_dict()},
            size_bytes=opened.bundle.listed[model.file]["size"],
        )
        shown = latency.p90 if latency.p90 is not None else latency.max
        limit = options.max_latency_ms
        slow = "" if limit is None or shown <= limit else f"p90 {milliseconds(shown)} > {milliseconds(limit)}"
        found.append(Candidate(row, model, score, score.why_not(options.max_drop), slow))
    return found


def score_of(model: Model, scores: dict[str, Score]) -> Score:
    """Return a model's own score, or that of the same form and precision in another engine and its name."""
    if model.name in scores:
        return scores[model.name]
    for name, score in scores.items():
        if not score.measured or name.split()[-2] == "pytorch":
            continue
        if name.replace(name.split()[-2], model.engine) == model.name:
            return replace(score, borrowed_from=name)
    return Score()


def advice_of(candidates: list[Candidate], options: AdviceOptions) -> Advice:
    """Choose among what fits as the verdict of a run does, and say so in one sentence."""
    accurate = [one for one in candidates if not one.inaccurate]
    if not accurate:
        return Advice(None, no_accuracy(candidates, options), NOT_ACCURATE)
    fitting = [one for one in accurate if one.fits]
    if not fitting:
        fastest = min(accurate, key=lambda one: one.row.latency("p50") or 0.0)
        words = f"Nothing that is accurate enough is fast enough: the fastest, {fastest.row.name}"
        return Advice(None, f"{words}, has {fastest.slow}.", NOT_FAST)
    row = choose([one.row for one in fitting])
    chosen = next(one for one in fitting if one.row is row)
    return Advice(
        chosen, f"Ship {chosen.row.name} on this machine: {praise(chosen, candidates, options)}.", FITS
    )


def no_accuracy(candidates: list[Candidate], options: AdviceOptions) -> str:
    """Return the sentence where nothing is accurate enough."""
    known = [one for one in candidates if one.score.drop is not None]
    if not known:
        return f"Nothing is known to be accurate enough: {candidates[0].inaccurate}."
    best = min(known, key=lambda one: one.score.drop or 0.0)
    return f"Nothing is accurate enough: the best, {best.row.name}, {best.inaccurate}."


def praise(chosen: Candidate, candidates: list[Candidate], options: AdviceOptions) -> str:
    """Return accuracy and latency of what is to be shipped, and what it gains over fp32 in ONNX Runtime."""
    score, row = chosen.score, chosen.row
    said = [score.words(options.max_drop)]
    if score.borrowed_from:
        said[0] += f" (as measured for {score.borrowed_from}; this engine was not scored)"
    p90 = row.latency("p90")
    limit = (
        "" if options.max_latency_ms is None else f", at most {milliseconds(options.max_latency_ms)} allowed"
    )
    tail = f", p90 {milliseconds(p90)}" if p90 is not None else ", too few samples for p90"
    said.append(f"p50 {milliseconds(row.latency('p50'))}{tail}{limit}")
    plain = next((one.row for one in candidates if one.model.name == "onnxruntime fp32"), None)
    ratio = gain(row, plain)
    if plain is not None and plain is not row and ratio is not None:
        surely = "" if is_faster(row, plain) else ", which the rounds do not tell from noise"
        said.append(f"{ratio:.2f} times the speed of {plain.name}{surely}")
    return "; ".join(said)


def as_table(candidates: list[Candidate]) -> list[str]:
    """Return a line for each model: accuracy, what it loses, latency, size, and whether it fits."""
    rows = [["model", "top-1", "drop", "p50 ms", "p90 ms", "MB", "  fits"]]
    for one in candidates:
        p90 = one.row.latency("p90")
        rows.append(
            [
                one.model.name,
                percent(one.score.top1) + ("*" if one.score.borrowed_from else " "),
                one.score.drop_words(),
                f"{one.row.latency('p50'):.3g}",
                "n too small" if p90 is None else f"{p90:.3g}",
                f"{(one.row.size_bytes or 0) / 1e6:.1f}",
                "  yes" if one.fits else "  no",
            ]
        )
    lines = table_of(rows)
    if any(one.score.borrowed_from for one in candidates):
        lines.append("* as measured for the same precision in another engine; this one was not scored")
    reasons = ["", *(f"  ({'; '.join(filter(None, (one.inaccurate, one.slow)))})" for one in candidates)]
    ends = [*reasons, *[""] * (len(lines) - len(reasons))]
    return [f"{line}{why}" if why != "  ()" else line for line, why in zip(lines, ends, strict=True)]


def as_plain(
    opened: Opened,
    measured: Measured,
    candidates: list[Candidate],
    advice: Advice,
    options: AdviceOptions,
) -> dict[str, Any]:
    """Return everything as plain data."""
    return {
        "schema_version": SCHEMA_VERSION,
        "environment": environment(),
        "conditions": measured.conditions,
        "max_drop": options.max_drop,
        "max_latency_ms": options.max_latency_ms,
        "reference": AS_TRAINED,
        "ship": None if advice.chosen is None else advice.chosen.model.name,
        "sentence": advice.sentence,
        "exit_code": advice.exit_code,
        "models": {
            one.model.name: {
                "file": one.model.file,
                **one.score.to_dict(),
                "latency_ms": one.row.latency_ms[1],
                "size_bytes": one.row.size_bytes,
                "fits": one.fits,
                "reasons": [why for why in (one.inaccurate, one.slow) if why],
            }
            for one in candidates
        },
        "not_run_here": {model.name: reason for model, reason in opened.skipped.items()},
    }
