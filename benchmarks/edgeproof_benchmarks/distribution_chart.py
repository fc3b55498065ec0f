"""Distributions of latency as hills above a common axis, each with its percentiles below."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgeproof_benchmarks.formats import milliseconds
from edgeproof_benchmarks.markup import Html, tag
from edgeproof_benchmarks.svg import Frame, LogScale, drawing, round_values, text_width

BINS = 120
HILL, GAP = 34, 26
SMOOTH = (0.25, 0.5, 0.25)


@dataclass(frozen=True)
class Spread:
    """The samples of one form.

    Attributes:
        name: of the form.
        trace_ms: every sample in milliseconds, at least one, all above 0.
        marks: percentiles to mark, such as `{"p50": 0.2, "p90": 0.3}`.
        style: `teacher`, `shipped` or `other`.
    """

    name: str
    trace_ms: np.ndarray
    marks: dict[str, float]
    style: str = "other"


def hills(spreads: Sequence[Spread], *, title: str, width: float = 960) -> Html:
    """Return a hill for each form, the height of each its own, over one logarithmic axis of milliseconds.

    The axis ends at the slowest sample, so that a tail is seen however rare it is: single samples are ticks
    on the ground.
    """
    height = 46 + len(spreads) * (HILL + GAP)
    frame = Frame(width, height, left=210, right=24, top=8, bottom=40)
    low = min(float(one.trace_ms.min()) for one in spreads)
    high = max(float(one.trace_ms.max()) for one in spreads)
    x = LogScale(frame.x(math.log10(low) - 0.02, math.log10(high) + 0.02))
    ground = frame.y(0, 1).start
    parts: list[Html] = []
    for value in round_values(low, high):
        place = x(value)
        parts.append(tag("line", x1=place, x2=place, y1=frame.top, y2=ground, class_="grid"))
        parts.append(tag("text", f"{value:g}", x=place, y=ground + 17, class_="tick middle"))
    middle = (x.start + x.end) / 2
    label = "one call at batch 1, ms (logarithmic)"
    parts.append(tag("text", label, x=middle, y=height - 6, class_="label middle"))
    for index, one in enumerate(spreads):
        base = frame.top + HILL + index * (HILL + GAP)
        parts += hill(one, x, base)
    said = "; ".join(
        f"{one.name}: {', '.join(f'{name} {milliseconds(value)}' for name, value in one.marks.items())}"
        for one in spreads
    )
    return drawing(width, height, title, said, *parts, class_="chart hills")


def hill(one: Spread, x: LogScale, base: float) -> list[Html]:
    """Return a form's name, its hill, its slowest samples as ticks, and its percentiles."""
    logs = np.log10(one.trace_ms)
    counts, edges = np.histogram(logs, bins=BINS, range=(x.linear.low, x.linear.high))
    smooth = np.convolve(counts, SMOOTH, mode="same")
    tops = base - HILL * smooth / smooth.max()
    centres = (edges[:-1] + edges[1:]) / 2
    line = " ".join(f"{x.linear(c):.1f},{top:.1f}" for c, top in zip(centres, tops, strict=True))
    outline = f"{x.start:.1f},{base:.1f} {line} {x.end:.1f},{base:.1f}"
    parts = [
        tag("text", one.name, x=x.start - 12, y=base - 4, class_="note strong end"),
        tag("polygon", points=outline, class_=f"hill {one.style}"),
        tag("line", x1=x.start, x2=x.end, y1=base, y2=base, class_="axis"),
    ]
    slow = np.sort(logs)[-max(1, len(logs) // 100) :]
    places = dict.fromkeys(round(x.linear(float(log)), 1) for log in slow)
    parts += [tag("line", x1=place, x2=place, y1=base - 4, y2=base, class_="slow") for place in places]
    free = x.start
    for name, value in one.marks.items():
        place = x(value)
        words = f"{name} {milliseconds(value)}"
        left = max(min(place, x.end - text_width(words, 11)), free)
        parts.append(tag("line", x1=place, x2=place, y1=base, y2=base + 5, class_="axis"))
        parts.append(tag("text", words, x=left, y=base + 17, class_="tick"))
        free = left + text_width(words, 11) + 10
    return parts
