"""How latency spreads: every sample of each form, and what several streams, memory and energy come to."""

from __future__ import annotations

import numpy as np

from edgeproof_benchmarks.distribution_chart import Spread, hills
from edgeproof_benchmarks.formats import MISSING, integer, known, milliseconds, significant, size
from edgeproof_benchmarks.markup import Html, tag
from edgeproof_benchmarks.report_data import FormRow, ReportData
from edgeproof_benchmarks.verdict import shipped_form

MARKED = ("p50", "p90", "p99")
FEWEST = 20
"""Samples below which a distribution has no shape."""


def spread(data: ReportData) -> Html | None:
    """Return the section, or None where no samples were kept and no stream was measured."""
    timed = [row for row in data.rows if row.ran and row.latency_ms]
    parts = [distributions(data, timed), streams_table(timed, data.item)]
    if not any(parts):
        return None
    lead = "Every call at batch 1, none left out. A percentile stands where the samples can prove its bound."
    return tag(
        "section",
        tag("h2", "Spread of latency"),
        tag("p", lead, class_="lead"),
        *[part for part in parts if part],
    )


def distributions(data: ReportData, timed: list[FormRow]) -> Html | None:
    """Return a hill for each form that has its samples."""
    shipped = shipped_form(data.rows, data.verdict)
    found = []
    for row in timed:
        trace = samples_of(data, row)
        if trace is None:
            continue
        marks = {name: row.latency(name) for name in MARKED}
        style = "teacher" if row.form == "teacher" else "shipped" if row is shipped else "other"
        found.append(Spread(row.name, trace, {k: v for k, v in marks.items() if v is not None}, style))
    if not found:
        return None
    counts = ", ".join(f"{len(one.trace_ms):,}" for one in found)
    caption = tag("figcaption", tag("b", "distribution of latency"), tag("span", f"n = {counts}"))
    chart = hills(found, title="Distribution of latency by form")
    return tag(
        "div",
        tag("figure", caption, chart),
        class_="scroll",
        tabindex="0",
        role="region",
        aria_label="Distributions",
    )


def samples_of(data: ReportData, row: FormRow) -> np.ndarray | None:
    """Return a form's samples at batch 1 in milliseconds, where there are enough of them."""
    trace = data.traces.get(f"{row.key}/batch1")
    return trace if trace is not None and len(trace) >= FEWEST and float(trace.min()) > 0 else None


def streams_table(timed: list[FormRow], item: str) -> Html | None:
    """Return items a second by how many streams ask at once, memory, and energy where it was read."""
    rows = [row for row in timed if row.streams or row.memory_bytes]
    if not rows:
        return None
    counts = sorted({count for row in rows for count in row.streams})
    with_energy = any(known(row.latency("millijoules")) for row in rows)
    with_gpu = any(row.gpu_memory_bytes for row in rows)
    names = [
        "form",
        *[f"{count} stream{'s' if count > 1 else ''}, {item}s/s (p90)" for count in counts],
        "spread (CoV)",
        "peak memory",
        *(["GPU memory"] if with_gpu else []),
        *([f"mJ an {item}"] if with_energy else []),
    ]
    head = tag("tr", *[tag("th", name, scope="col") for name in names])
    lines = []
    for row in rows:
        cells = [*[rate(row, count) for count in counts], spread_of(row), size(row.memory_bytes)]
        cells += [size(row.gpu_memory_bytes)] if with_gpu else []
        cells += [energy(row)] if with_energy else []
        lines.append(tag("tr", tag("th", row.name, scope="row"), *[tag("td", cell) for cell in cells]))
    table = tag("table", tag("thead", head), tag("tbody", *lines), class_="figures streams")
    return tag("div", table, class_="scroll", tabindex="0", role="region", aria_label="Table of streams")


def rate(row: FormRow, streams: int) -> str:
    """Return `4,210 (0.61 ms)`: images a second of all streams, and the p90 of their calls."""
    found = row.streams.get(streams)
    if not found:
        return MISSING
    per_second = found["images_per_second"]
    shown = integer(per_second) if per_second >= 100 else significant(per_second)
    return f"{shown} ({milliseconds((found.get('latency_ms') or {}).get('p90'))})"


def spread_of(row: FormRow) -> str:
    """Return the coefficient of variation at batch 1."""
    cov = row.latency("cov")
    return MISSING if cov is None else f"{cov:.2f}"


def energy(row: FormRow) -> str:
    """Return the millijoule of an image at batch 1."""
    found = row.latency("millijoules")
    return MISSING if found is None else significant(found)
