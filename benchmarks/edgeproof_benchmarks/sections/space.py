"""Where the test images lie in the space of the shipped form's outputs."""

from __future__ import annotations

from edgeproof_benchmarks.answer_data import Picture, Space
from edgeproof_benchmarks.formats import percent, plural
from edgeproof_benchmarks.markup import Html, tag
from edgeproof_benchmarks.report_data import ReportData
from edgeproof_benchmarks.space_chart import space_chart, space_legend


def space(data: ReportData) -> Html | None:
    """Return the section, or None where there is no picture."""
    found = data.space
    if found is None or not found.pictures:
        return None
    panels = [panel(found, picture) for picture in found.pictures]
    legend = space_legend(found)
    if len(panels) == 1:
        beside = tag("div", legend, neighbours(found, data.item), class_="beside")
        body = tag("div", panels[0], beside, class_="side")
    else:
        body = tag("div", tag("div", *panels, class_="pair"), legend, neighbours(found, data.item))
    said = tag("p", lead(found, data.item), class_="lead")
    return tag("section", tag("h2", f"The space of {found.name}"), said, body)


def panel(found: Space, picture: Picture) -> Html:
    """Return one picture with its method above."""
    caption = tag("figcaption", tag("b", picture.method), tag("span", picture.note))
    return tag("figure", caption, space_chart(found, picture), class_="plane")


def lead(found: Space, item: str) -> str:
    """Return what is drawn: how many items, of how many dimensions, and what colour and shape mean."""
    drawn, counted = len(found.label), plural(found.images, f"test {item}")
    if drawn < found.images:
        counted = f"{drawn:,} of {counted}"
    said = f"{counted}, brought to length 1, from {found.dimensions:,} dimensions to two."
    if any(label is not None for label in found.labels):
        said += f" {item.capitalize()}s of one class should lie together."
    if any(label in found.unseen for label in found.labels):
        said += " Triangles are classes held out of training."
    return said


def neighbours(found: Space, item: str) -> Html | None:
    """Return how often the nearest neighbours of an item name its class, nothing being trained for it."""
    if found.knn is None:
        return None
    knn = found.knn
    near = " by the features that the classifier reads" if found.name == "class scores" else ""
    said = (
        f"Accuracy of nearest neighbours (kNN){near}: {percent(knn.nearest)} by the nearest other test {item}"
    )
    if knn.count > 1:
        said += f", {percent(knn.accuracy)} by the {knn.count} nearest, the nearer the weightier"
    part = f" Measured on {plural(knn.images, item)}." if knn.images != found.images else ""
    return tag("p", f"{said}.{part}", class_="flawless")
