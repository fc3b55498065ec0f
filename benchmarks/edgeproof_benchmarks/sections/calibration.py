"""How far the probability of an answer can be believed."""

from __future__ import annotations

from edgeproof_benchmarks.answer_data import Calibration
from edgeproof_benchmarks.formats import percent, points
from edgeproof_benchmarks.markup import Html, tag
from edgeproof_benchmarks.reliability_chart import reliability_chart
from edgeproof_benchmarks.report_data import ReportData

LEVEL = 0.005
"""Mean probability and accuracy that are this close are called equal."""


def calibration(data: ReportData) -> Html | None:
    """Return the section, or None where it was not measured."""
    found = data.calibration
    if found is None:
        return None
    lead = (
        "If answers of 80 % probability are right in 80 % of cases, the bars end on the dashed line. "
        f"Darker bars hold more {data.item}s. No temperature was fitted."
    )
    figures = (
        ("expected calibration error", percent(found.error)),
        ("mean probability of the first answer", percent(found.confidence)),
        ("first answers that are right", percent(found.accuracy)),
        (f"test {data.item}s", f"{found.images:,}"),
    )
    terms = [part for name, value in figures for part in (tag("dt", name), tag("dd", value))]
    return tag(
        "section",
        tag("h2", "Calibration"),
        tag("p", lead, class_="lead"),
        tag(
            "div",
            tag("figure", reliability_chart(found)),
            tag("div", tag("p", tag("b", tendency(found))), tag("dl", *terms), class_="facts"),
            class_="side",
        ),
    )


def tendency(found: Calibration) -> str:
    """Return whether the probabilities are too high or too low, in words."""
    gap = found.confidence - found.accuracy
    if abs(gap) < LEVEL:
        return "On the whole as sure as it is right."
    distance = points(abs(gap)).lstrip("+")
    return f"On the whole too {'sure' if gap > 0 else 'unsure'}, by {distance} points."
