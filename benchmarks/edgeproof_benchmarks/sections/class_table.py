"""Precision, recall and F1 of each class, weakest first."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgeproof_benchmarks.answer_data import ClassRow
from edgeproof_benchmarks.formats import integer, percent
from edgeproof_benchmarks.markup import Html, tag

OPEN_ROWS = 20
MOST_ROWS = 500
FILE = "verify/per_class.json"
COLUMNS = ("class", "F1", "", "precision", "recall")


def class_table(rows: Sequence[ClassRow], item: str) -> Html:
    """Return the section: the weakest classes, and the others folded away where there are many.

    Args:
        rows: of the classes.
        item: what was tested, `image` or `object`.
    """
    held = any(not row.seen for row in rows)
    perfect = sum(row.f1 == 1 for row in rows)
    lead = f"Lowest F1 first. {perfect:,} of {counted(len(rows))} without a mistake of either kind."
    means = [
        mean_line("all classes" if not held else "seen in training", "seen", [r for r in rows if r.seen])
    ]
    if held:
        means.append(mean_line("held out of training", "held", [row for row in rows if not row.seen]))
    return tag(
        "section",
        tag("h2", "Each class"),
        tag("p", lead, class_="lead"),
        tag("div", *means, class_="legend"),
        table(rows[:OPEN_ROWS], "Table of classes", item),
        folded(rows[OPEN_ROWS:], item),
    )


def folded(rows: Sequence[ClassRow], item: str) -> Html | None:
    """Return the rows after the first, folded away."""
    if not rows:
        return None
    shown = rows[:MOST_ROWS]
    left_out = None
    if len(shown) < len(rows):
        left_out = tag("p", f"and {len(rows) - len(shown):,} more, in {FILE}", class_="flawless")
    title = tag("summary", f"the other {counted(len(rows))}")
    return tag("details", title, table(shown, "Table of the other classes", item), left_out)


def table(rows: Sequence[ClassRow], name: str, item: str) -> Html:
    """Return the rows as a table."""
    heads = [
        tag("th", column or tag("span", "F1 as a bar", class_="for-readers"), scope="col")
        for column in (*COLUMNS, f"test {item}s")
    ]
    body = tag("tbody", *[line(row) for row in rows])
    whole = tag("table", tag("thead", tag("tr", *heads)), body, class_="figures per-class")
    return tag("div", whole, class_="scroll", tabindex="0", role="region", aria_label=name)


def line(row: ClassRow) -> Html:
    """Return one class; the bar is as long as its F1."""
    bar = tag("i", class_="reached", style=f"width:{100 * row.f1:.1f}%")
    held = tag("small", "held out") if not row.seen else None
    return tag(
        "tr",
        tag("th", row.name, held, scope="row"),
        tag("td", percent(row.f1)),
        tag("td", tag("span", bar, class_=f"track {'seen' if row.seen else 'held'}")),
        tag("td", percent(row.precision)),
        tag("td", percent(row.recall)),
        tag("td", integer(row.images)),
    )


def mean_line(words: str, style: str, rows: Sequence[ClassRow]) -> Html | None:
    """Return the legend of one kind of class with its means."""
    if not rows:
        return None
    f1, recall = (float(np.mean(values)) for values in ([r.f1 for r in rows], [r.recall for r in rows]))
    said = f"{words}: mean F1 {percent(f1)}, mean recall {percent(recall)} over {len(rows):,}"
    return tag("span", tag("i", class_=f"key {style}"), said)


def counted(count: int) -> str:
    """Return `1 class`, `64 classes`."""
    return f"{count:,} class{'' if count == 1 else 'es'}"
