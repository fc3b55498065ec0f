"""Compression: the student dense, pruned, in INT8 and both, side by side, and what each step bought."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgeproof_benchmarks.compression_words import counterpart, form_sentence
from edgeproof_benchmarks.formats import (
    METRIC_NAMES,
    MISSING,
    cosine,
    integer,
    known,
    metric,
    percent,
    significant,
    size,
    unbroken,
)
from edgeproof_benchmarks.gains import gain, times
from edgeproof_benchmarks.markup import Html, tag
from edgeproof_benchmarks.report_data import FormRow, ReportData
from edgeproof_benchmarks.sections.compression_steps import TENSORRT_FILE, folded, steps
from edgeproof_benchmarks.verdict import shipped_form

NAMES = {
    ("student", "fp32"): "dense fp32",
    ("student", "fp16"): "dense fp16",
    ("sparse", "fp32"): "2:4 sparse fp32",
    ("student", "int8"): "INT8",
    ("sparse", "int8"): "2:4 sparse INT8",
}
ACCURACIES = ("top1", "seen", "unseen", "harmonic_mean")
AS_TRAINED = "pytorch fp32"
"""Name of the fp32 student in PyTorch, as the pairs of the parity call it."""
Form = Mapping[str, Any]
Cells = list[tuple[str, Html | str]]


def compression(data: ReportData) -> Html | None:
    """Return the section, or None where the recipe compresses nothing."""
    found = data.compression
    if not found:
        return None
    lead = (
        f"All made of the same student and scored on the same test {data.item}s. Latencies are p50 of one"
        f" {data.item}, "
        "below them how many times faster that is than dense fp32 in the same engine."
    )
    return tag(
        "section",
        tag("h2", "Compression"),
        tag("p", lead, class_="lead"),
        table(found["forms"], data.rows, shipped_form(data.rows, data.verdict)),
        sentences(found["forms"], data.rows),
        steps(found, data.item),
        *folded(found),
    )


def form_name(form: Form) -> str:
    """Return a form in words."""
    return NAMES.get((form["form"], form["precision"]), f"{form['form']} {form['precision']}")


def rows_of(form: Form, rows: Sequence[FormRow]) -> list[FormRow]:
    """Return a form's rows, one for each engine."""
    return [row for row in rows if (row.form, row.precision) == (form["form"], form["precision"])]


def shown_row(form: Form, rows: Sequence[FormRow]) -> FormRow | None:
    """Return the row whose accuracy is shown: of an engine that ran here, of PyTorch where none did."""
    own = [row for row in rows_of(form, rows) if row.ran]
    return next((row for row in own if row.engine != "pytorch"), own[0] if own else None)


def table(forms: Sequence[Form], rows: Sequence[FormRow], shipped: FormRow | None) -> Html:
    """Return a line for each form, the shipped one marked; a column that no form fills is left out."""
    lines = [(form, cells(form, rows)) for form in forms]
    columns = [name for name, _ in lines[0][1]]
    kept = [place for place in range(len(columns)) if any(values[place][1] != MISSING for _, values in lines)]
    head = [tag("th", columns[place], scope="col") for place in kept]
    body = [
        line(form_name(form), [values[place][1] for place in kept], shipped in rows_of(form, rows))
        for form, values in lines
    ]
    whole = tag(
        "table",
        tag("thead", tag("tr", tag("th", "form", scope="col"), *head)),
        tag("tbody", *body),
        class_="figures compressed",
    )
    name = "Table of compressed forms"
    return tag("div", whole, class_="scroll", tabindex="0", role="region", aria_label=name)


def line(name: str, values: Sequence[Html | str], shipped: bool) -> Html:
    """Return a form's line."""
    title = tag("th", name, tag("small", "shipped") if shipped else None, scope="row")
    return tag("tr", title, *[cell(value) for value in values], class_="shipped" if shipped else None)


def cell(value: Html | str) -> Html:
    """Return a cell; one that is a cell already stays."""
    return value if isinstance(value, Html) else tag("td", value)


def cells(form: Form, rows: Sequence[FormRow]) -> Cells:
    """Return the name of each column with what a form has in it."""
    row = shown_row(form, rows)
    metrics = row.metrics if row else {}
    found: Cells = [(METRIC_NAMES[name], metric(name, metrics.get(name))) for name in ACCURACIES]
    found.append(("cosine to teacher", cosine(metrics.get("cosine"))))
    found.append(("cosine to fp32 student", cosine(cosine_to_student(row))))
    found.append(("weights", weights(form)))
    found.append(("ONNX", onnx_size(form)))
    for engine in dict.fromkeys(one.engine for one in rows if one.engine and one.form != "teacher"):
        own = next((one for one in rows_of(form, rows) if one.engine == engine), None)
        title = next(one.engine_name for one in rows if one.engine == engine)
        found.append((f"{title} plan", plan_size(own, rows)))
        found.append((f"{title}, ms", latency(own, rows)))
    found.append(("gates", gates(form, rows)))
    return found


def cosine_to_student(row: FormRow | None) -> float | None:
    """Return the mean cosine to the embeddings of the fp32 student in PyTorch."""
    pairs = [pair for pair in row.parity if pair.get("reference") == AS_TRAINED] if row else []
    return pairs[-1].get("cosine_mean") if pairs else None


def weights(form: Form) -> Html | str:
    """Return how many weights the ONNX file stores, and which share of them is zero, if any."""
    counted = form.get("weights")
    if not counted:
        return MISSING
    zeros = counted["weights"] - counted["nonzero"]
    share = f"{percent(zeros / counted['weights'])} zero" if zeros else ""
    return with_small(integer(counted["weights"]), share)


def onnx_size(form: Form) -> str:
    """Return the bytes of the file, that for ONNX Runtime where there are two."""
    sizes = [told["size_bytes"] for name, told in form["files"].items() if not name.endswith(TENSORRT_FILE)]
    return size(sizes[0] if sizes else None)


def plan_size(row: FormRow | None, rows: Sequence[FormRow]) -> Html | str:
    """Return the bytes of an engine file, and how many of the dense fp32 one those are."""
    if row is None or row.engine in ("pytorch", "onnxruntime") or not row.size_bytes:
        return MISSING
    base = counterpart(row, rows, form="student", precision="fp32")
    ratio = (
        f"{significant(row.size_bytes / base.size_bytes, 2)} times fp32" if base and base.size_bytes else ""
    )
    return with_small(size(row.size_bytes), ratio if row.ran else ratio or row.status)


def latency(row: FormRow | None, rows: Sequence[FormRow]) -> Html | str:
    """Return p50 of one image, and how many times faster than dense fp32 that is."""
    p50 = row.latency("p50") if row else None
    if row is None or not known(p50):
        return MISSING
    ratio = gain(row, counterpart(row, rows, form="student", precision="fp32"))
    return with_small(significant(p50 or 0.0), f"{times(ratio)} times" if ratio else "")


def gates(form: Form, rows: Sequence[FormRow]) -> Html | str:
    """Return how many of the measured gates of a form hold, in all engines together."""
    measured = [gate for row in rows_of(form, rows) for gate in row.gates if gate.status != "not measured"]
    if not measured:
        return MISSING
    held = sum(gate.status == "pass" for gate in measured)
    return tag("td", f"{held} of {len(measured)}", class_="bad" if held < len(measured) else None)


def with_small(figure: str, below: str) -> Html:
    """Return a cell with a remark under its figure."""
    return tag("td", figure, tag("small", below) if below else None)


def sentences(forms: Sequence[Form], rows: Sequence[FormRow]) -> Html | None:
    """Return what is to be said of each compressed form."""
    said = [
        part
        for form in forms
        if (words := form_sentence(rows_of(form, rows), rows))
        for part in (tag("dt", form_name(form)), tag("dd", unbroken(words)))
    ]
    return tag("dl", *said, class_="verdicts") if said else None
