"""What each engine really computes in, layer by layer: the name of a file proves nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from edgeproof_benchmarks.formats import in_a_row, plural
from edgeproof_benchmarks.markup import Html, tag
from edgeproof_benchmarks.report_data import FormRow, ReportData

CONVERSIONS = ("Cast", "QuantizeLinear", "DequantizeLinear")
PASSIVE = ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Identity", "Constant", "Shape")
"""Operators that compute nothing."""
TONES = {"proven": "good", "refuted": "bad"}
COLUMNS = ("layer", "operator", "computes in", "kernel")
MOST_SHOWN = 400
Rows = Sequence[Mapping[str, Any]]


def layers(data: ReportData) -> Html | None:
    """Return what was claimed and found, and a block for each form with layers, where there is either."""
    blocks = [block(row, data.layers[row.key]) for row in data.rows if row.key in data.layers]
    claimed = claims_table(data.rows)
    if not blocks and claimed is None:
        return None
    lead = "As the engine runs it after its own optimisations, not as the file is called."
    return tag(
        "section",
        tag("h2", "What the layers compute in"),
        tag("p", lead, class_="lead"),
        claimed,
        *blocks,
        class_="layers",
    )


def claims_table(rows: Sequence[FormRow]) -> Html | None:
    """Return each claim of each form with how it came out and why."""
    lines = [
        tag(
            "tr",
            tag("th", row.name, scope="row"),
            tag("td", claim["claim"]),
            tag("td", claim["outcome"], class_=TONES.get(claim["outcome"], "unsure")),
            tag("td", claim["evidence"]),
        )
        for row in rows
        for claim in row.claims
    ]
    if not lines:
        return None
    head = tag("tr", *[tag("th", name, scope="col") for name in ("form", "claim", "outcome", "evidence")])
    table = tag("table", tag("thead", head), tag("tbody", *lines), class_="wordy claims")
    return tag("div", table, class_="scroll", tabindex="0", role="region", aria_label="Table of claims")


def block(row: FormRow, found: Mapping[str, Any]) -> Html:
    """Return a form's layers, counted and one by one, or why they are not known."""
    if "reason" in found:
        return tag("p", tag("b", row.name), f": {found['reason']}.")
    listed: Rows = found["layers"]
    head = tag(
        "tr", *[tag("th", name, scope="col") for name in ("layer", "operator", "computes in", "kernel")]
    )
    lines = [
        tag(
            "tr",
            tag("td", tag("code", one["name"])),
            tag("td", one["kind"]),
            tag("td", one["precision"]),
            tag("td", tag("code", one["kernel"]) if one.get("kernel") else None),
        )
        for one in listed[:MOST_SHOWN]
    ]
    table = tag("table", tag("thead", head), tag("tbody", *lines), class_="wordy")
    more = f"and {len(listed) - MOST_SHOWN:,} more" if len(listed) > MOST_SHOWN else None
    return tag(
        "details",
        tag("summary", tag("b", row.name), f": {summary(listed)}"),
        tag("div", table, class_="scroll"),
        tag("p", more) if more else None,
    )


def summary(listed: Rows) -> str:
    """Return `21 layers in int8, 1 layer in fp32; 3 conversions between`."""
    working = [one for one in listed if one["kind"] not in (*CONVERSIONS, *PASSIVE)]
    counts = Counter(one["precision"] for one in working)
    said = in_a_row([f"{plural(count, 'layer')} in {name}" for name, count in counts.most_common()])
    between = sum(one["kind"] in CONVERSIONS for one in listed)
    tail = f"; {plural(between, 'conversion')} between" if between else ""
    return f"{said or 'no layers'}{tail}"
