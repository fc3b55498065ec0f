"""`result.json`: a row for each form of the student, with everything that the stages found out about it."""

from __future__ import annotations

from typing import Any

from edgeproof_benchmarks.compression_data import compression_notes, compression_of
from edgeproof_benchmarks.report_data import SCHEMA_VERSION, Control, FormRow, accuracies
from edgeproof_benchmarks.verdict import SHIP, Verdict, judge
from edgeproof_configs.files import read_json
from edgeproof_configs.run import STAGES
from edgeproof_configs.stage import StageContext
from edgeproof_train.cascade_run import routing_line
from edgeproof_train.head_stage import head_line
from edgeproof_train.run_data import RunData
from edgeproof_train.run_head import is_fitted

LATENCY_GATE = "latency_p90_ms"
FLIPS = 12


def make_result(context: StageContext) -> dict[str, Any]:
    """Join the figures of a run's stages, judge them, and return plain data."""
    verified, measured = context.metrics("verify"), context.metrics("bench")
    rows = [
        row | measured["forms"].get(f"{row['form']}/{row['engine']}/{row['precision']}", {})
        for row in full_rows(verified["rows"])
    ]
    add_latency_gate(context, rows)
    typed = [FormRow.from_dict(row) for row in rows]
    controls = [Control(row["form"], accuracies(row["metrics"])) for row in verified["controls"]]
    data = RunData(context)
    item = data.source.item
    verdict = judge(typed, controls, item)
    embedded = context.metrics("embed")
    compression = compression_of(context)
    made = {
        "schema_version": SCHEMA_VERSION,
        "name": context.recipe.name,
        "item": item,
        "sentence": verdict.sentence,
        "verdict": verdict.status,
        "shipped": shipped(verdict),
        "caveats": list(verdict.caveats),
        "view": context.recipe.teacher.view,
        "environment": read_json(context.run.path / "environment.json") | {"device": context.device},
        "bench_conditions": measured.get("conditions"),
        "rows": rows,
        "controls": verified["controls"],
        "stages": stage_seconds(context),
        "data": {"counts": embedded["images"], "corrupt": data.corrupt()},
        "notes": [*notes(context, rows, item), *compression_notes(compression, item)],
    }
    fitted = {"head": context.metrics("head")} if is_fitted(context.recipe.head) else {}
    if "routing" in verified:
        fitted["routing"] = verified["routing"]
    if context.recipe.curate is not None:
        made["curation"] = context.metrics("curate")
    return made | fitted | ({} if compression is None else {"compression": compression})


def shipped(verdict: Verdict) -> dict[str, str] | None:
    """Return the form that the verdict says to ship, or None where it says not to."""
    if verdict.status != SHIP or verdict.row is None:
        return None
    return {name: getattr(verdict.row, name) for name in ("form", "engine", "precision")}


def full_rows(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows of the verification; `parity.json` has every flip, a row the first and the count."""
    return [{**row, "parity": [with_few_flips(pair) for pair in row["parity"]]} for row in rows]


def with_few_flips(pair: dict[str, Any]) -> dict[str, Any]:
    """Return a pair with its first flips and how many there are, and the classes that lost most."""
    flips, recalls = pair.get("flips"), pair.get("recall_changes")
    few = {"flips": flips[:FLIPS], "flip_count": len(flips)} if flips else {}
    return pair | few | ({"recall_changes": recalls[:FLIPS]} if recalls else {})


def add_latency_gate(context: StageContext, rows: list[dict[str, Any]]) -> None:
    """Put the latency gate into the row of its engine."""
    gate = context.recipe.gates.latency_p90_ms
    if gate is None:
        return
    for row in rows:
        if row["engine"] != gate.engine:
            continue
        value = row.get("latency_ms", {}).get(f"batch{gate.batch}", {}).get("p90")
        status = "not measured" if value is None else "pass" if value <= gate.max else "fail"
        row["gates"] = [
            *row["gates"],
            {"name": LATENCY_GATE, "value": value, "limit": gate.max, "status": status, "bound": "at most"},
        ]


def stage_seconds(context: StageContext) -> list[dict[str, Any]]:
    """Return how long each finished stage took."""
    records = [(name, context.run.record(name)) for name in STAGES]
    return [{"stage": name, "seconds": record.seconds} for name, record in records if record]


def notes(context: StageContext, rows: list[dict[str, Any]], item: str) -> list[str]:
    """Return what was skipped or assumed, and why."""
    said = list(dict.fromkeys(f"{row['engine']}: {row['reason']}" for row in rows if row.get("reason")))
    left_out = context.metrics("build").get("left_out", {})
    said += [f"{kind}: not built, {reason}" for kind, reason in left_out.items()]
    if is_fitted(context.recipe.head):
        fitted = context.metrics("head")
        said += [f"head: {head_line(fitted)}", *(f"head: {note}" for note in fitted["notes"])]
    routing = context.metrics("verify").get("routing")
    if routing:
        said.append(f"head: {routing_line(routing)}")
    if context.recipe.teacher.view == "assume_invariant":
        of = "a view of an object" if item == "object" else "a photo"
        said.append(
            f"view: assume_invariant - one stored teacher embedding {of} serves its flips and mild crops"
        )
    if context.recipe.baseline is None:
        said.append("no baseline: the recipe has no normal training to compare with")
    return said
