"""The plot of a study: a panel for each protocol, a line for each model, with the deviation over seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from edgeproof_benchmarks.formats import significant
from edgeproof_benchmarks.markup import Html, join, tag
from edgeproof_benchmarks.svg import Frame, LogScale, Scale, axes, drawing, padded, shortened, text_width

WIDTH, HEIGHT = 400, 250
LINE_HEIGHT = 18
STYLES = 8
"""Looks of lines that the style sheet knows."""
LONGEST = 46
CAP = 3
"""Half the width of the ends of a deviation, in pixels."""


@dataclass(frozen=True)
class Curve:
    """A line: its points, and the deviation over seeds at each, 0 where there is one seed."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    spread: Sequence[float]


@dataclass(frozen=True)
class Panel:
    """One protocol."""

    title: str
    curves: Sequence[Curve]


@dataclass(frozen=True)
class Axis:
    """What runs to the right: its name, and the words of its values where they are no numbers."""

    name: str
    words: Sequence[str] = ()


def study_chart(panels: Sequence[Panel], axis: Axis, measure: str) -> Html:
    """Return the panels in rows of two, to a common scale, above a legend that they share.

    Args:
        panels: at least one, with a point at least.
        axis: what runs to the right.
        measure: what runs upwards.
    """
    names = list(dict.fromkeys(curve.name for panel in panels for curve in panel.curves))
    curves = [curve for panel in panels for curve in panel.curves]
    ends = [
        y + sign * s for one in curves for y, s in zip(one.y, one.spread, strict=True) for sign in (-1, 1)
    ]
    low, high = padded(ends)
    across = min(len(panels), 2)
    rows = math.ceil(len(panels) / across)
    drawn = [
        tag(
            "g",
            panel_of(panel, axis, (low, high), names, measure),
            transform=f"translate({WIDTH * (place % across)} {(HEIGHT + 22) * (place // across)})",
        )
        for place, panel in enumerate(panels)
    ]
    bottom = rows * (HEIGHT + 22)
    legend = [entry(name, index, bottom + LINE_HEIGHT * index) for index, name in enumerate(names)]
    width = max(WIDTH * across, 40 + max(int(text_width(shortened(name, LONGEST))) for name in names))
    said = "; ".join(
        f"{panel.title}, {curve.name}: {significant(curve.y[-1])} at the last point"
        for panel in panels
        for curve in panel.curves
    )
    height = bottom + LINE_HEIGHT * len(names) + 8
    return drawing(width, height, f"{measure} by {axis.name}", said, *drawn, *legend, class_="chart study")


def panel_of(
    panel: Panel, axis: Axis, reach: tuple[float, float], names: Sequence[str], measure: str
) -> Html:
    """Return one panel with its title above, which says what runs upwards."""
    frame = Frame(WIDTH, HEIGHT + 22, top=30)
    values = sorted({x for curve in panel.curves for x in curve.x})
    x, y = horizontal(frame, values, bool(axis.words)), frame.y(*reach)
    parts = [
        axes(
            frame,
            x,
            y,
            x_ticks=values,
            x_format=lambda value: shortened(axis.words[int(value)], 16) if axis.words else f"{value:g}",
            y_format=None,
            x_label=axis.name,
        ),
        tag("text", f"{panel.title}: {measure}", x=frame.left, y=16, class_="note strong"),
    ]
    parts += [drawn_curve(curve, x, y, names.index(curve.name)) for curve in panel.curves]
    return join(parts)


def horizontal(frame: Frame, values: Sequence[float], named: bool) -> Scale | LogScale:
    """Return the scale to the right: logarithmic for counts that span much, with air for names."""
    low, high = min(values), max(values)
    if not named and low > 0 and high / low > 4:
        return LogScale(frame.x(math.log10(low) - 0.04, math.log10(high) + 0.04))
    air = 0.5 if named else 0.04 * (high - low)
    return frame.x(low - (air or 0.5), high + (air or 0.5))


def drawn_curve(curve: Curve, x: Scale | LogScale, y: Scale, index: int) -> Html:
    """Return a line with a dot at each point, and its deviation as an upright bar."""
    style = f"s{index % STYLES}"
    points = [(x(a), y(b), s) for a, b, s in zip(curve.x, curve.y, curve.spread, strict=True)]
    path = " ".join(f"{a:.1f},{b:.1f}" for a, b, _ in points)
    parts = [tag("polyline", points=path, class_=f"line {style}")] if len(points) > 1 else []
    for (a, b, spread), value, at in zip(points, curve.y, curve.x, strict=True):
        reach = abs(y(value) - y(value + spread))
        if spread:
            bar = f"M{a:.1f} {b - reach:.1f}v{2 * reach:.1f}M{a - CAP:.1f} {b - reach:.1f}h{2 * CAP}"
            parts.append(
                tag("path", d=f"{bar}M{a - CAP:.1f} {b + reach:.1f}h{2 * CAP}", class_=f"whisker {style}")
            )
        told = f"{curve.name}: {significant(value)}" + (f" ± {significant(spread, 2)}" if spread else "")
        parts.append(tag("circle", tag("title", f"{told} at {at:g}"), cx=a, cy=b, r=3, class_=f"dot {style}"))
    return join(parts)


def entry(name: str, index: int, top: float) -> Html:
    """Return a line of the legend."""
    style, middle = f"s{index % STYLES}", top + LINE_HEIGHT / 2
    sample = tag("line", x1=8, x2=34, y1=middle, y2=middle, class_=f"line {style}")
    words = tag("text", tag("title", name), shortened(name, LONGEST), x=42, y=middle + 4, class_="note")
    return join([sample, words])
