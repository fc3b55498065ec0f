"""Charts of the report: lines over epochs, a scatter of accuracy against latency, rows of bars."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edgeproof_benchmarks.formats import milliseconds, percent, significant, size
from edgeproof_benchmarks.markup import Html, join, tag
from edgeproof_benchmarks.svg import (
    FONT_SIZE,
    Frame,
    LogScale,
    Scale,
    axes,
    drawing,
    padded,
    round_values,
    text_width,
)

SMALLEST_MARK, LARGEST_MARK = 4.0, 11.0
"""Radii in the scatter, in pixels."""


@dataclass(frozen=True)
class Series:
    """A line: its name, its points, and the index of a point to mark."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    marked: int | None = None


def line_chart(
    series: Sequence[Series],
    *,
    title: str,
    x_label: str = "epoch",
    y_format: Callable[[float], str] | None = None,
    zero: bool = False,
    width: float = 330,
    height: float = 190,
) -> Html:
    """Return lines over a common horizontal axis, with a legend below where there are several.

    The last value of each line is in the description, so that the chart can be read without seeing it.
    """
    frame = Frame(width, height)
    every_x = [value for line in series for value in line.x]
    low, high = min(every_x), max(every_x)
    x = frame.x(low, high if high > low else low + 1)
    y = frame.y(*padded([value for line in series for value in line.y], zero=zero))
    parts = [
        axes(
            frame,
            x,
            y,
            x_ticks=whole_ticks(x) if high > low else [low],
            x_format=lambda value: f"{value:g}",
            y_format=y_format,
            x_label=x_label,
        )
    ]
    for index, line in enumerate(series):
        parts.append(polyline(line, x, y, index))
    show = y_format or significant
    said = "; ".join(f"{line.name} ends at {show(line.y[-1])}" for line in series)
    shown = drawing(width, height, title, said, *parts)
    return join([shown, legend([line.name for line in series])]) if len(series) > 1 else shown


def whole_ticks(x: Scale) -> list[float]:
    """Return round tick values, whole numbers where the range allows it."""
    ticks = x.ticks(5)
    whole = [tick for tick in ticks if abs(tick - round(tick)) < 1e-9]
    return whole if len(whole) >= 2 else ticks


def polyline(line: Series, x: Scale, y: Scale, index: int) -> Html:
    """Return a line, its last point, and a ring around the marked one."""
    points = [(x(a), y(b)) for a, b in zip(line.x, line.y, strict=True)]
    parts = [
        tag("polyline", points=" ".join(f"{a:.1f},{b:.1f}" for a, b in points), class_=f"line s{index % 4}")
    ]
    if line.marked is not None:
        a, b = points[line.marked]
        ring = tag("circle", tag("title", "best epoch"), cx=a, cy=b, r=4.5, class_=f"ring s{index % 4}")
        parts.append(ring)
    else:
        parts.append(tag("circle", cx=points[-1][0], cy=points[-1][1], r=2.6, class_=f"dot s{index % 4}"))
    return join(parts)


def legend(names: Sequence[str]) -> Html:
    """Return the names beside a sample of their line."""
    items = []
    for index, name in enumerate(names):
        sample = tag(
            "svg",
            tag("line", x1=0, x2=22, y1=5, y2=5, class_=f"line s{index % 4}"),
            width=22,
            height=10,
            viewBox="0 0 22 10",
            aria_hidden="true",
        )
        items.append(tag("span", sample, name))
    return tag("div", *items, class_="legend")


@dataclass(frozen=True)
class Point:
    """A form at its latency and accuracy; `style` is `teacher`, `shipped` or `other`.

    `size_bytes` is drawn as the area of its mark, where it is known.
    """

    name: str
    latency_ms: float
    accuracy: float
    style: str
    size_bytes: int | None = None


def scatter(points: Sequence[Point], levels: Sequence[tuple[str, float]], *, title: str) -> Html:
    """Return accuracy (up) against p50 latency (right), with levels such as the teacher's accuracy."""
    width, height = 410, 280
    frame = Frame(width, height, left=52, right=18)
    fastest, slowest = (pick(point.latency_ms for point in points) for pick in (min, max))
    x = LogScale(frame.x(math.log10(fastest) - 0.08, math.log10(slowest) + 0.22))
    heights = [point.accuracy for point in points] + [level for _, level in levels]
    low, high = padded(heights, share=0.16)
    if high - low < 0.02:
        low, high = low - 0.01, high + 0.01
    y = frame.y(max(low, 0.0), min(high, 1.0) if high <= 1.0 else 1.0 + 0.04 * (1.0 - max(low, 0.0)))
    parts = [
        axes(
            frame,
            x,
            y,
            x_ticks=round_values(10**x.linear.low, 10**x.linear.high),
            x_format=lambda value: f"{value:g}",
            y_format=lambda value: "" if value > 1.0001 else percent(value, 0 if high - low > 0.06 else 1),
            x_label="p50 latency, batch 1 (ms, logarithmic)",
        )
    ]
    largest = max((point.size_bytes or 0 for point in points), default=0)
    taken = []
    for point in points:
        a, b, r = x(point.latency_ms), y(point.accuracy), radius(point, largest) + 1
        taken.append((a - r, b - r, a + r, b + r))
    best = frontier([point for point in points if point.style != "teacher"])
    if len(best) > 1:
        steps = " ".join(f"{x(p.latency_ms):.1f},{y(p.accuracy):.1f}" for p in best)
        parts.append(tag("polyline", points=steps, class_="frontier"))
    for name, level in levels:
        label = f"{name} {percent(level)}"
        box = (x.end - text_width(label), y(level) - 5 - FONT_SIZE, x.end, y(level) - 5)
        parts.append(tag("line", x1=x.start, x2=x.end, y1=y(level), y2=y(level), class_="level"))
        parts.append(tag("text", label, x=x.end, y=y(level) - 5, class_="note end"))
        taken.append(box)
    ordered = sorted(points, key=lambda p: p.style != "shipped")
    labels = [label_beside(p.name, x(p.latency_ms), y(p.accuracy), frame, taken) for p in ordered]
    # The largest first, so that none hides another.
    drawn = sorted(ordered, key=lambda p: -radius(p, largest))
    parts += [*labels, *(mark(point, x, y, radius(point, largest)) for point in drawn)]
    said = "; ".join(f"{p.name}: {percent(p.accuracy)} at {milliseconds(p.latency_ms)}" for p in points)
    return drawing(width, height, title, said, *parts)


def frontier(points: Sequence[Point]) -> list[Point]:
    """Return the points that no other one beats in both latency and accuracy, the fastest first."""
    best: list[Point] = []
    for point in sorted(points, key=lambda p: (p.latency_ms, -p.accuracy)):
        if not best or point.accuracy > best[-1].accuracy:
            best.append(point)
    return best


def radius(point: Point, largest: int) -> float:
    """Return the radius of a mark, its area in proportion to the size; 6 where the size is not known."""
    if not point.size_bytes or not largest:
        return SMALLEST_MARK if largest else 6.0
    return max(SMALLEST_MARK, LARGEST_MARK * math.sqrt(point.size_bytes / largest))


def mark(point: Point, x: LogScale, y: Scale, r: float) -> Html:
    """Return a point's symbol with its figures as a tooltip."""
    large = f", {size(point.size_bytes)}" if point.size_bytes else ""
    said = f"{point.name}: {percent(point.accuracy)}, {milliseconds(point.latency_ms)} p50{large}"
    a, b = x(point.latency_ms), y(point.accuracy)
    if point.style == "teacher":
        return tag("rect", tag("title", said), x=a - 5, y=b - 5, width=10, height=10, class_="mark teacher")
    return tag("circle", tag("title", said), cx=a, cy=b, r=f"{r:.1f}", class_=f"mark {point.style}")


Box = tuple[float, float, float, float]


def label_beside(words: str, x: float, y: float, frame: Frame, taken: list[Box]) -> Html:
    """Return a label at the first place around a point where it covers nothing; add it to `taken`.

    One that is not right beside its point is joined to it by a thin line.
    """
    width = text_width(words)
    places = [(x + 11, y + 4), (x - 11 - width, y + 4)]
    for step in range(1, 8):
        places += [
            (x + 11, y + 4 + 16 * step),
            (x + 11, y + 4 - 16 * step),
            (x - 11 - width, y + 4 + 16 * step),
            (x - 11 - width, y + 4 - 16 * step),
        ]
    boxes = [(left, base - FONT_SIZE, left + width, base + 3) for left, base in places]
    free = [
        box
        for box in boxes
        if box[0] > frame.left
        and box[2] < frame.width
        and box[1] > 0
        and box[3] < frame.height - frame.bottom
        and not any(overlap(box, other) for other in taken)
    ]
    box = free[0] if free else boxes[0]
    taken.append(box)
    shown = tag("text", words, x=box[0], y=box[3] - 3, class_="note strong")
    if box in boxes[:2]:
        return shown
    near = box[0] - 2 if box[0] > x else box[2] + 2
    return join([tag("line", x1=x, y1=y, x2=near, y2=(box[1] + box[3]) / 2, class_="leader"), shown])


def overlap(a: Box, b: Box) -> bool:
    """Whether two boxes (left, top, right, bottom) share an area."""
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


@dataclass(frozen=True)
class Bar:
    """A labelled length; `reach` is a fainter, longer one behind it (a p90 behind a p50)."""

    label: str
    length: float
    value: str
    reach: float | None = None
    style: str = ""


def bar_rows(bars: Sequence[Bar], longest: float | None = None, class_: str = "bars") -> Html:
    """Return labelled horizontal bars, one a line, to a common scale from zero."""
    scale = longest or max((max(bar.length, bar.reach or 0.0) for bar in bars), default=0.0) or 1.0
    rows = []
    for bar in bars:
        lengths = [(bar.reach, "reach"), (bar.length, "reached")]
        drawn = [
            tag("i", class_=kind, style=f"width:{100 * min(length / scale, 1):.2f}%")
            for length, kind in lengths
            if length is not None
        ]
        cells = (
            tag("span", bar.label, class_="bar-label", title=bar.label),
            tag("span", *drawn, class_=f"track {bar.style}".strip()),
            tag("span", bar.value, class_="bar-value"),
        )
        rows.append(tag("div", *cells, class_="bar"))
    return tag("div", *rows, class_=class_)
