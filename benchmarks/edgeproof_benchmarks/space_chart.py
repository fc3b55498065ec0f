"""Points of an embedding space: larger classes in colours, the others grey, held-out ones as triangles."""

from __future__ import annotations

import numpy as np

from edgeproof_benchmarks.answer_data import Picture, Space
from edgeproof_benchmarks.formats import plural
from edgeproof_benchmarks.markup import Html, join, tag
from edgeproof_benchmarks.svg import drawing

COLOURS = 12
SIDE = 420.0
MARGIN = 10.0


def coloured(space: Space) -> list[int]:
    """Return the labels that get a colour, in their order: those with the most points.

    Of equally large ones as many as there are colours left, evenly spread over the list.
    """
    counts = np.bincount(space.label, minlength=len(space.labels))
    named = [place for place, name in enumerate(space.labels) if name is not None and counts[place]]
    if len(named) <= COLOURS:
        return named
    chosen: list[int] = []
    for count in sorted({int(counts[place]) for place in named}, reverse=True):
        equal = [place for place in named if counts[place] == count]
        room = COLOURS - len(chosen)
        if len(equal) > room:
            equal = [equal[int(at)] for at in np.linspace(0, len(equal) - 1, room)] if room else []
        chosen += equal
    return sorted(chosen)


def space_chart(space: Space, picture: Picture) -> Html:
    """Return the points of one picture, both axes to the same scale."""
    points = placed(picture.points)
    radius = 2.6 if len(points) > 400 else 3.4
    colours = {place: index for index, place in enumerate(coloured(space))}
    grey = [place for place in range(len(space.labels)) if place not in colours]
    # Grey lies below, so that it hides no colour.
    layers = [marks(space, points, place, "none", radius) for place in grey]
    layers += [marks(space, points, place, f"k{index}", radius) for place, index in colours.items()]
    frame = tag("rect", x=0.5, y=0.5, width=SIDE - 1, height=SIDE - 1, class_="outline")
    title = f"{space.name.capitalize()} by {picture.method}"
    said = f"{plural(len(points), 'point')} of {plural(len(space.labels), 'label')}"
    return drawing(SIDE, SIDE, title, said, frame, *layers, class_="chart space")


def placed(points: np.ndarray) -> np.ndarray:
    """Return points (N, 2) as pixels of the chart, the second axis upwards."""
    low, high = points.min(axis=0), points.max(axis=0)
    scale = (SIDE - 2 * MARGIN) / max(float((high - low).max()), 1e-12)
    middle = (low + high) / 2
    return np.stack(
        [SIDE / 2 + (points[:, 0] - middle[0]) * scale, SIDE / 2 - (points[:, 1] - middle[1]) * scale], axis=1
    )


def marks(space: Space, points: np.ndarray, place: int, style: str, radius: float) -> Html:
    """Return all points of a label as one path: round dots, or triangles where it was held out."""
    name = space.labels[place]
    own = points[space.label == place]
    held = name in space.unseen
    shape = triangle(radius * 1.35) if held else "h0"
    path = "".join(f"M{x:.1f} {y - (radius * 1.35 if held else 0):.1f}{shape}" for x, y in own.tolist())
    words = f"{name or 'no label'}{', held out of training' if held else ''}"
    stroke = None if held else f"stroke-width:{2 * radius:g}"
    return tag("path", tag("title", words), d=path, style=stroke, class_=f"{'tri' if held else 'pt'} {style}")


def triangle(radius: float) -> str:
    """Return a path from the top of an equilateral triangle around it."""
    across, down = 1.732 * radius, 1.5 * radius
    return f"l{across / 2:.1f} {down:.1f}h{-across:.1f}z"


def space_legend(space: Space) -> Html:
    """Return the colours with their classes, and the shapes where both occur."""
    shown = coloured(space)
    items = [entry(str(space.labels[place]), f"k{index}", space) for index, place in enumerate(shown)]
    others = [name for place, name in enumerate(space.labels) if place not in shown]
    if others:
        nameless = all(name is None for name in others)
        words = "no label" if nameless else f"{len(others):,} other class{'' if len(others) == 1 else 'es'}"
        items.append(tag("span", symbol("none", False), words))
    return tag("div", join(items), class_="legend")


def entry(name: str, style: str, space: Space) -> Html:
    """Return one class of the legend; a held-out one is in italics and has a triangle."""
    held = name in space.unseen
    return tag("span", symbol(style, held), tag("em", name) if held else name)


def symbol(style: str, held: bool) -> Html:
    """Return the mark of a class."""
    d, kind = ("M6 1.5" + triangle(5), "tri") if held else ("M6 6h0", "pt")
    mark = tag("path", d=d, class_=f"{kind} {style}", style=None if held else "stroke-width:9")
    return tag("svg", mark, width=12, height=12, viewBox="0 0 12 12", aria_hidden="true")
