"""A study as one HTML page and as one drawing, both without anything beside them."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files

from edgeproof_benchmarks.markup import Html, tag


def study_page(
    title: str,
    lead: str,
    chart: Html,
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    notes: Sequence[str],
) -> str:
    """Return the page.

    Args:
        title: of the study.
        lead: what was varied, in a sentence.
        chart: from `study_chart`.
        head: names of the columns.
        rows: cells, the first of each a name.
        notes: what should be known about the figures.
    """
    top = tag("tr", *[tag("th", name, scope="col") for name in head])
    body = [tag("tr", tag("th", row[0], scope="row"), *[tag("td", cell) for cell in row[1:]]) for row in rows]
    table = tag("table", tag("thead", top), tag("tbody", *body), class_="figures")
    scrolled = tag("div", table, class_="scroll", tabindex="0", role="region", aria_label="Table of figures")
    told = tag("ul", *[tag("li", note) for note in notes], class_="notes") if notes else None
    plot = tag("section", tag("h2", "Plot"), tag("div", chart, class_="scroll", tabindex="0", role="region"))
    header = tag("header", tag("h1", title), tag("p", "edgeproof study"))
    figures = tag("section", tag("h2", "Figures"), told, scrolled)
    main = tag("main", tag("p", lead, class_="lead"), plot, figures)
    page = tag(
        "html",
        tag(
            "head",
            tag("meta", charset="utf-8"),
            tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
            tag("meta", name="color-scheme", content="light dark"),
            tag("title", title),
            tag("style", Html(style_sheet())),
        ),
        tag("body", header, main),
        lang="en",
    )
    return f"<!doctype html>\n{page}\n"


def study_drawing(chart: Html) -> str:
    """Return the drawing as a file of its own, with its style."""
    style = tag("style", Html(style_sheet() + "\nsvg { background: var(--page); }"))
    opening = chart.index(">") + 1
    marked = chart[:opening].replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
    return f"{marked}{style}{chart[opening:]}\n"


def style_sheet() -> str:
    """Return the style of every page."""
    return files("edgeproof_benchmarks").joinpath("report.css").read_text(encoding="utf-8")
