"""The reliability diagram: how often answers of a confidence are right."""

from __future__ import annotations

from edgeproof_benchmarks.answer_data import Bin, Calibration
from edgeproof_benchmarks.formats import percent, plural
from edgeproof_benchmarks.markup import Html, tag
from edgeproof_benchmarks.svg import Frame, Scale, axes, drawing

WIDTH, HEIGHT = 330.0, 260.0
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)


def reliability_chart(found: Calibration) -> Html:
    """Return a bar for each bin of confidence, and the line on which every bar would end.

    A bar is as wide as the bin, as high as its accuracy, and the darker the more images it has.
    """
    frame = Frame(WIDTH, HEIGHT, left=52)
    x, y = frame.x(0, 1), frame.y(0, 1)
    grid = axes(
        frame,
        x,
        y,
        x_ticks=SHARES,
        x_format=lambda value: percent(value, 0),
        y_format=lambda value: percent(value, 0),
        x_label="probability of the first answer",
    )
    most = max((one.images for one in found.bins), default=1)
    bars = [bar(one, x, y, one.images / most) for one in found.bins]
    ideal = tag("line", x1=x(0), y1=y(0), x2=x(1), y2=y(1), class_="level")
    said = f"expected calibration error {percent(found.error)} over {plural(found.images, 'answer')}"
    return drawing(WIDTH, HEIGHT, "Reliability diagram", said, grid, *bars, ideal, class_="chart reliability")


def bar(one: Bin, x: Scale, y: Scale, share: float) -> Html:
    """Return one bin; a bin that is never right keeps a line at the bottom."""
    left, right = x(one.low), x(one.high)
    said = (
        f"{percent(one.low, 0)} to {percent(one.high, 0)}: {plural(one.images, 'answer')},"
        f" mean probability {percent(one.confidence)}, {percent(one.accuracy)} right"
    )
    return tag(
        "rect",
        tag("title", said),
        x=left + 0.75,
        y=min(y(one.accuracy), y(0) - 1.5),
        width=max(right - left - 1.5, 1.0),
        height=max(y(0) - y(one.accuracy), 1.5),
        class_="right",
        fill_opacity=round(0.3 + 0.7 * share**0.5, 2),
    )
