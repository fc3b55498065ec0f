"""The table of forms: every form with its accuracy, latency, size and gates, and the controls below."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from edgeproof_benchmarks.formats import METRIC_NAMES, MISSING, integer, known, metric, significant, size
from edgeproof_benchmarks.markup import Html, tag
from edgeproof_benchmarks.report_data import Control, FormRow, ReportData
from edgeproof_benchmarks.verdict import shipped_form

REMARKS = {
    ("student", "pytorch", "fp32"): "the student, as trained",
    ("sparse", "pytorch", "fp32"): "pruned and tuned",
    ("student", "pytorch", "int8"): "rounding simulated, not timed",
    ("sparse", "pytorch", "int8"): "rounding simulated, not timed",
}
Column = tuple[str, Callable[[FormRow], str]]


def forms(data: ReportData) -> Html:
    """Return the section; a column that no row fills is left out."""
    columns = [column for column in all_columns(data) if any(column[1](row) != MISSING for row in data.rows)]
    shipped = shipped_form(data.rows, data.verdict)
    head = tag("tr", tag("th", "form", scope="col"), *[tag("th", name, scope="col") for name, _ in columns])
    body = [form_line(row, columns, row is shipped) for row in data.rows]
    counted = next((row.metrics["images"] for row in data.rows if "images" in row.metrics), None)
    controls = [control_line(one, columns, counted, data.item) for one in data.controls]
    table = tag(
        "table",
        tag("thead", head),
        tag("tbody", *body),
        tag("tbody", *controls, class_="controls") if controls else None,
        class_="figures",
    )
    explained = f"Accuracies on the test {data.item}s, scored once. Latencies for one {data.item}"
    if any(known(row.metrics.get("harmonic_mean")) for row in data.rows):
        explained += ". Held out: classes that training never saw; H: harmonic mean of seen and held out"
    return tag(
        "section",
        tag("h2", "Every form of the model"),
        tag("p", explained + ".", class_="lead"),
        tag("div", table, class_="scroll", tabindex="0", role="region", aria_label="Table of forms"),
    )


def all_columns(data: ReportData) -> list[Column]:
    """Return every column that a row could fill, in reading order."""
    present = {name for row in (*data.rows, *data.controls) for name in row.metrics}
    metrics = [name for name in METRIC_NAMES if name in present]
    columns: list[Column] = [
        (METRIC_NAMES[name], lambda row, name=name: cell(name, row.metrics)) for name in metrics
    ]
    columns += [
        ("p50 ms", lambda row: plain_ms(row.latency("p50"))),
        ("p90 ms", lambda row: plain_ms(row.latency("p90"))),
        ("size", lambda row: size(row.size_bytes)),
        ("gates", lambda row: gate_count(row)),
    ]
    return columns


def cell(name: str, metrics: Mapping[str, float]) -> str:
    """Return a metric for the table, or a dash."""
    return metric(name, metrics.get(name))


def plain_ms(value: float | None) -> str:
    """Return milliseconds without their unit, which stands in the column's name."""
    return MISSING if value is None else significant(value)


def gate_count(row: FormRow) -> str:
    """Return `7 of 7` gates passed."""
    measured = [gate for gate in row.gates if gate.status != "not measured"]
    if not row.gates:
        return MISSING
    if not measured:
        return "not measured"
    return f"{sum(gate.status == 'pass' for gate in measured)} of {len(measured)}"


def form_line(row: FormRow, columns: Sequence[Column], shipped: bool) -> Html:
    """Return a row; the shipped form is marked, a form that did not run here says so."""
    remark = REMARKS.get((row.form, row.engine, row.precision))
    note = row.status if not row.ran else "shipped" if shipped else remark
    failed = any(gate.status == "fail" for gate in row.gates)
    values = [
        tag("td", show(row), class_="bad" if name == "gates" and failed else None) for name, show in columns
    ]
    style = "shipped" if shipped else None if row.ran else "idle"
    return tag(
        "tr", tag("th", row.name, tag("small", note) if note else None, scope="row"), *values, class_=style
    )


def control_line(control: Control, columns: Sequence[Column], counted: float | None, item: str) -> Html:
    """Return a row of a control, which has accuracies only; says so where it was scored on others."""
    names = {shown: name for name, shown in METRIC_NAMES.items()}
    values = [
        tag("td", cell(names[shown], control.metrics) if shown in names else MISSING) for shown, _ in columns
    ]
    images = control.metrics.get("images")
    other = f" on other {item}s ({integer(images)})" if images is not None and images != counted else ""
    return tag("tr", tag("th", control.form, tag("small", f"control{other}"), scope="row"), *values)
