"""Parity: how far each form is from the one before it, the gates, and every decision that flipped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgeproof_benchmarks.formats import MISSING, agreement, cosine, integer, known, plural, points, small
from edgeproof_benchmarks.markup import Html, tag
from edgeproof_benchmarks.report_data import FormRow, Gate, ReportData, named
from edgeproof_benchmarks.verdict import gate_figure
from edgeproof_deploy.gates import MEANINGS

MOST_FLIPS = 12
BOUNDS = {"at least": "≥", "at most": "≤"}
COLUMNS = (
    "cosine min",
    "mean",
    "largest difference",
    "mean difference",
    "top-1 same",
    "top-5 same",
    "top-1 change, points",
)
SIGNS = {"pass": "✓", "fail": "✗"}


def parity(data: ReportData) -> Html | None:
    """Return the section, or None where neither parity nor a gate was looked at."""
    pairs = [pair for row in data.rows for pair in row.parity]
    gates = [row for row in data.rows if row.gates]
    if not pairs and not gates:
        return None
    lead = (
        f"The same {data.item}s go through both forms of a pair, so that a loss is blamed on one step of the"
        " chain."
    )
    return tag(
        "section",
        tag("h2", "Parity and gates"),
        tag("p", lead, class_="lead"),
        pairs_table(pairs, data.item) if pairs else None,
        gates_tables(gates) if gates else None,
        *[flips(pair) for pair in pairs],
    )


def pairs_table(pairs: Sequence[Mapping[str, Any]], item: str) -> Html:
    """Return a line for each pair with its numerics, its agreement and what that means for accuracy."""
    head = tag("tr", *[tag("th", name, scope="col") for name in ("pair", f"{item}s", *COLUMNS)])
    lines = [tag("tr", tag("th", pair_name(pair), scope="row"), *pair_cells(pair)) for pair in pairs]
    table = tag("table", tag("thead", head), tag("tbody", *lines), class_="figures")
    return tag("div", table, class_="scroll", tabindex="0", role="region", aria_label="Table of pairs")


def pair_cells(pair: Mapping[str, Any]) -> list[Html]:
    """Return the figures of a pair, or why there are none."""
    if pair.get("reason"):
        return [tag("td", f"not measured: {pair['reason']}", class_="words unsure", colspan=1 + len(COLUMNS))]
    figures = (
        integer(pair.get("n")),
        cosine(pair.get("cosine_min")),
        cosine(pair.get("cosine_mean")),
        small(pair.get("max_abs")),
        small(pair.get("mean_abs")),
        agreement(pair.get("top1_agreement")),
        agreement(pair.get("top5_agreement")),
        change(pair),
    )
    return [tag("td", figure) for figure in figures]


def pair_name(pair: Mapping[str, Any]) -> str:
    """Return `PyTorch fp32 → ONNX Runtime fp32`."""
    return f"{named(pair.get('reference', '?'))} → {named(pair.get('candidate', '?'))}"


def change(pair: Mapping[str, Any]) -> str:
    """Return the change of top-1 accuracy in points, with its 95 % interval where that has a width."""
    delta = ((pair.get("metrics") or {}).get("delta") or {}).get("top1")
    interval = pair.get("interval")
    if not interval or interval[0] == interval[1]:
        return points(delta)
    return f"{points(delta)} ({points(interval[0])} to {points(interval[1])})"


def gates_tables(rows: Sequence[FormRow]) -> Html:
    """Return the gates of each form with their limits, their values and how they came out."""
    return tag("div", *[gates_table(row) for row in rows], class_="all-gates")


def gates_table(row: FormRow) -> Html:
    """Return the gates of one form; where it is compared with several, each gate says with which."""
    head = tag(
        "tr",
        tag("th", row.name, scope="col"),
        tag("th", "measured", scope="col"),
        tag("th", "limit", scope="col"),
        tag("th", "outcome", scope="col", class_="words"),
    )
    references = references_of(row)
    lines = [gate_line(gate, reference) for gate, reference in zip(row.gates, references, strict=True)]
    return tag("table", tag("thead", head), tag("tbody", *lines), class_="figures gates")


def references_of(row: FormRow) -> list[str]:
    """Return for each gate of a row which form it is compared with; nothing where that is plain.

    The gates of the pairs come first, in order; those of the form by itself follow.
    """
    found = [named(pair.get("reference", "?")) for pair in row.parity for _ in pair.get("gates") or ()]
    if len(row.parity) < 2:
        found = []
    return [*found, *[""] * len(row.gates)][: len(row.gates)]


def gate_line(gate: Gate, reference: str) -> Html:
    """Return one gate of the table."""
    outcome = f"{SIGNS.get(gate.status, '?')} {gate.status}"
    told = [MEANINGS.get(gate.name, ""), f"beside {reference}" if reference else ""]
    note = ", ".join(filter(None, told))
    return tag(
        "tr",
        tag("td", gate.name, tag("small", note) if note else None, class_="words"),
        tag("td", gate_figure(gate, gate.value)),
        tag("td", f"{BOUNDS.get(gate.bound, '')} {gate_figure(gate, gate.limit)}".strip()),
        tag("td", outcome, class_=f"words {status_style(gate.status)}"),
    )


def status_style(status: str) -> str:
    """Return the colour class of a gate's outcome."""
    return {"pass": "good", "fail": "bad"}.get(status, "unsure")


def flips(pair: Mapping[str, Any]) -> Html | None:
    """Return the decisions of a pair that changed, with both margins where they are known."""
    changed = pair.get("flips")
    if not isinstance(changed, list) or not changed:
        return None
    count = pair.get("flip_count", len(changed))
    title = f"{plural(count, 'flip')}: {pair_name(pair)}"
    lines = [tag("li", flip_words(flip)) for flip in changed[:MOST_FLIPS]]
    if count > len(lines):
        lines.append(tag("li", f"and {count - len(lines):,} more"))
    return tag("details", tag("summary", title), tag("ul", *lines), open=count <= MOST_FLIPS)


def flip_words(flip: Any) -> str:
    """Return a flip as a sentence; one of a shape that is not known is shown as it is written."""
    if not isinstance(flip, Mapping):
        return str(flip)
    image = flip.get("path", flip.get("index", MISSING))
    words = f"{image}: {flip.get('reference', '?')} → {flip.get('candidate', '?')}"
    if flip.get("true") is not None:
        words += f", true: {flip['true']}"
    margins = [flip.get("reference_margin"), flip.get("candidate_margin")]
    if all(known(margin) for margin in margins):
        tie = "a tie, " if flip.get("tie") else ""
        words += f" ({tie}margins {small(margins[0])} and {small(margins[1])})"
    return words
