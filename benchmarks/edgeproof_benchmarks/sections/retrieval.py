"""How well objects of a class are found: figures by both definitions, curves, and rankings in pictures."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping

from edgeproof_benchmarks.charts import Series, line_chart
from edgeproof_benchmarks.formats import MISSING, integer, known, plural, significant
from edgeproof_benchmarks.markup import Html, tag
from edgeproof_benchmarks.report_data import ReportData, named
from edgeproof_benchmarks.retrieval_data import Pictured, Ranking, Retrieval

MEASURES = {
    "map": "mAP",
    "ndcg": "NDCG@100",
    "anmrr": "ANMRR",
    "nn": "nearest",
    "first_tier": "first tier",
    "second_tier": "second tier",
    "recall@5": "recall@5",
    "recall@10": "recall@10",
}
PROTOCOLS = {"all": "all classes", "seen": "seen", "unseen": "held out"}
DEFINITIONS = {"standard": "standard", "osmn40": "OS-MN40"}
LEVELS = [level / 10 for level in range(11)]
PERFECT = "Of ANMRR 0 is the best, of all others 1."
MEANT = (
    "Standard: mAP not interpolated, NDCG against the best possible order, ANMRR of MPEG-7. OS-MN40: as its"
    " evaluator counts, with interpolated mAP, NDCG against 100 relevant objects however few there are, and"
    " an ANMRR of its own; the two must not be compared with each other."
)


def retrieval(data: ReportData) -> Html | None:
    """Return the section, or None where nothing was searched."""
    found = data.retrieval
    if found is None:
        return None
    where = "the others of its class"
    if found.gallery is not None:
        where = f"those of its class among the {plural(found.gallery, 'object')} of the gallery"
    seen = plural(found.views, "view")
    by_teacher = ", the teacher all that there are" if len(found.figures) > 1 else ""
    lead = (
        f"Each test object searches for {where}. The student sees {seen} of each{by_teacher}."
        f" Seen and held out classes are searched among themselves. {PERFECT}"
    )
    return tag(
        "section",
        tag("h2", "Retrieval"),
        tag("p", lead, class_="lead"),
        figures_table(found),
        tag("p", MEANT, class_="lead after"),
        tag("div", *curves(found), class_="pair"),
        *([tag("h3", "Nearest objects"), tag("p", chosen(found), class_="lead")] if found.rankings else []),
        *[ranking(one) for one in found.rankings],
    )


def figures_table(found: Retrieval) -> Html:
    """Return a line for each protocol, definition and model."""
    names = ["", "definition", "model", "queries", *MEASURES.values(), "mAP, less the teacher's"]
    head = tag("tr", *[tag("th", name, scope="col") for name in names])
    table = tag("table", tag("thead", head), tag("tbody", *lines(found)), class_="figures")
    return tag("div", table, class_="scroll", tabindex="0", role="region", aria_label="Table of retrieval")


def lines(found: Retrieval) -> Iterator[Html]:
    """Yield the lines of the table."""
    protocols = dict.fromkeys(name for one in found.figures.values() for name in one)
    for protocol in protocols:
        for definition, shown in DEFINITIONS.items():
            for model, figures in found.figures.items():
                if protocol not in figures:
                    continue
                values = figures[protocol][definition]
                change = found.differences.get(protocol) if model == found.form else None
                cells = [shown, named(model), integer(values.get("queries"))]
                cells += [figure(values, name) for name in MEASURES]
                cells.append(difference(change) if change and definition == "standard" else MISSING)
                words = PROTOCOLS.get(protocol, protocol)
                style = "shipped" if model == found.form else None
                yield tag(
                    "tr", tag("th", words, scope="row"), *[tag("td", cell) for cell in cells], class_=style
                )


def figure(values: Mapping[str, float], name: str) -> str:
    """Return a measure with three decimals; a dash where the definition does not have it."""
    value = values.get(name)
    return f"{value:.3f}" if value is not None and known(value) else MISSING


def difference(change: Mapping[str, float]) -> str:
    """Return `-0.012 (-0.034 to +0.010)`, with the 95 % interval."""
    delta, low, high = (
        f"{change[key]:+.3f}".replace("-", "\N{MINUS SIGN}") for key in ("delta", "low", "high")
    )
    return f"{delta} ({low} to {high})"


def curves(found: Retrieval) -> Iterator[Html]:
    """Yield precision over recall, a chart for each definition."""
    for definition, shown in DEFINITIONS.items():
        series = [
            Series(named(model), LEVELS, one[definition])
            for model, one in found.curves.items()
            if definition in one
        ]
        if not series:
            continue
        chart = line_chart(
            series,
            title=f"Precision over recall, {shown}",
            x_label="recall",
            y_format=lambda value: f"{value:g}",
            zero=True,
            width=440,
            height=250,
        )
        caption = tag("figcaption", tag("b", f"precision over recall, {shown}"))
        yield tag("figure", caption, chart)


def chosen(found: Retrieval) -> str:
    """Return what the rankings show."""
    right = sum(near.right for one in found.rankings for near in one.nearest)
    count = sum(len(one.nearest) for one in found.rankings)
    many = "one query" if len(found.rankings) == 1 else f"{len(found.rankings)} queries"
    return (
        f"{many.capitalize()}, evenly spread over the test objects, with what is nearest, the nearest first."
        f" ✓ in a full frame: of the query's class; ✗ in a broken one: of another. {right} of {count} shown"
        " are right."
    )


def ranking(one: Ranking) -> Html:
    """Return a query and, to its right, the objects that are nearest."""
    held = "" if one.query.seen else ", held out of training"
    asking = tag(
        "figure",
        image(one.query, f"query: {one.query.label}"),
        tag("figcaption", tag("b", one.query.label), tag("small", f"query{held}")),
        class_="found query",
    )
    return tag("div", asking, *[nearest(near) for near in one.nearest], class_="ranking")


def nearest(near: Pictured) -> Html:
    """Return an object in a frame that says, by colour, line and mark, whether it is of the query's class."""
    sign, words = ("✓", "right") if near.right else ("✗", "wrong")
    name = near.label or "no label"
    cosine = "" if near.cosine is None else f"cosine {significant(near.cosine)}"
    return tag(
        "figure",
        image(near, f"{words}: {name}"),
        tag("figcaption", tag("b", f"{sign} {name}"), tag("small", cosine)),
        class_=f"found {'good' if near.right else 'bad'}",
    )


def image(one: Pictured, words: str) -> Html:
    """Return the first view of an object."""
    source = f"data:image/jpeg;base64,{base64.b64encode(one.thumbnail).decode()}"
    return tag("img", src=source, alt=words, title=one.path, loading="lazy")
