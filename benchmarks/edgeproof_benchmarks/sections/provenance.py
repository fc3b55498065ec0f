"""Where the figures come from: data, what was skipped of them, the head's, stage times, machine, notes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeproof_benchmarks.charts import Bar, bar_rows
from edgeproof_benchmarks.formats import duration, in_a_row, integer, plural
from edgeproof_benchmarks.markup import Html, join, tag
from edgeproof_benchmarks.report_data import ReportData
from edgeproof_benchmarks.sections.head_draw import head_draw

MOST_CORRUPT = 20


def provenance(data: ReportData) -> Html:
    """Return notes, data, stage times and the environment."""
    blocks = [block for block in (images(data), head_draw(data), stages(data), machine(data)) if block]
    return join(
        [notes(data), tag("section", tag("h2", "Where this comes from"), tag("div", *blocks, class_="pair"))]
    )


def notes(data: ReportData) -> Html | None:
    """Return what was skipped and why, and other remarks of the stages."""
    said = list(data.notes)
    for row in data.rows:
        unmeasured = list(dict.fromkeys(gate.name for gate in row.gates if gate.status == "not measured"))
        if not row.ran:
            said.append(f"{row.name}: {row.status}, so it has no figures of its own{without(unmeasured)}.")
        elif unmeasured:
            said.append(f"{row.name}{without(unmeasured)}.")
    if not said:
        return None
    return tag(
        "section",
        tag("h2", "Left out, and why"),
        tag("ul", *[tag("li", line) for line in said], class_="notes"),
    )


def without(gates: list[str]) -> str:
    """Return `; not measured: cosine and agreement`; nothing where every gate was."""
    return f"; gates not measured: {in_a_row(gates)}" if gates else ""


def images(data: ReportData) -> Html:
    """Return how many images or objects each part has, and what could not be read of them."""
    rows = [(name, integer(count)) for name, count in data.counts.items()]
    rows.append(("skipped, unreadable", integer(data.corrupt_total)))
    if data.view:
        rows.append(("teacher's view", data.view))
    listed = [
        tag("li", tag("code", entry.get("path", "?")), f": {entry.get('reason', 'unreadable')}")
        for entry in data.corrupt[:MOST_CORRUPT]
    ]
    if len(data.corrupt) > MOST_CORRUPT:
        listed.append(tag("li", f"and {len(data.corrupt) - MOST_CORRUPT:,} more"))
    details = None
    if listed:
        title = f"{plural(data.corrupt_total, 'image')} could not be read"
        if data.item == "object":
            title = f"{plural(data.corrupt_total, 'view')} or objects could not be read"
        details = tag("details", tag("summary", title), tag("ul", *listed))
    return tag("figure", tag("figcaption", tag("b", f"{data.item}s")), pairs(rows), details)


def stages(data: ReportData) -> Html | None:
    """Return how long each stage took."""
    if not data.stages:
        return None
    bars = [Bar(name, seconds, duration(seconds)) for name, seconds in data.stages]
    total = duration(sum(seconds for _, seconds in data.stages))
    caption = tag("figcaption", tag("b", "time of each stage"), tag("span", f"{total} in all"))
    return tag("figure", caption, bar_rows(bars))


def machine(data: ReportData) -> Html | None:
    """Return the machine and the versions."""
    if not data.environment:
        return None
    plain = {key: value for key, value in data.environment.items() if not isinstance(value, Mapping | list)}
    nested = [value for value in data.environment.values() if isinstance(value, Mapping)]
    rows = [(str(key), str(value)) for key, value in plain.items() if value not in (None, "")]
    versions: list[tuple[str, Any]] = [pair for group in nested for pair in group.items()]
    rows += [(str(key), str(value)) for key, value in versions]
    return tag("figure", tag("figcaption", tag("b", "machine and versions")), pairs(rows))


def pairs(rows: list[tuple[str, str]]) -> Html:
    """Return names and values in two columns."""
    cells = [join([tag("dt", name), tag("dd", value)]) for name, value in rows]
    return tag("dl", *cells)
