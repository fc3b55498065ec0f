"""What every chart is made of: scales, round ticks, the frame with title and description, axes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edgeproof_benchmarks.formats import MINUS
from edgeproof_benchmarks.markup import Child, Html, join, tag

FONT_SIZE = 12
CHARACTER_WIDTH = 0.55
"""Mean width of a character of the page's font, in font sizes."""


@dataclass(frozen=True)
class Scale:
    """A linear map from values to pixels."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Return the pixel of a value."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self, count: int = 5) -> list[float]:
        """Return about `count` round values that lie inside."""
        step = round_step((self.high - self.low) / max(count, 1))
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [index * step for index in range(first, last + 1)]


@dataclass(frozen=True)
class LogScale:
    """A logarithmic map from values above 0 to pixels; `linear` maps their logarithms to base 10."""

    linear: Scale

    def __call__(self, value: float) -> float:
        """Return the pixel of a value."""
        return self.linear(math.log10(value))

    @property
    def start(self) -> float:
        """Where the scale begins, in pixels."""
        return self.linear.start

    @property
    def end(self) -> float:
        """Where the scale ends, in pixels."""
        return self.linear.end


def round_values(low: float, high: float) -> list[float]:
    """Return 1, 2 and 5 times the powers of ten between two values; more where these are few."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1, 2, 5), (1, 1.5, 2, 3, 4, 5, 7), tuple(1 + part / 10 for part in range(90))):
        found = [step * 10.0**power for power in powers for step in steps]
        inside = [value for value in found if low <= value <= high]
        if len(inside) >= 3:
            return inside
    return [low, high] if high > low else [low]


def round_step(rough: float) -> float:
    """Return the first of 1, 2, 2.5, 5 times a power of ten that is not below `rough`."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * (1 - 1e-9))


def padded(values: Sequence[float], *, zero: bool = False, share: float = 0.08) -> tuple[float, float]:
    """Return a range around the values with some air; from zero where `zero`; never empty."""
    low, high = min(values), max(values)
    if zero:
        low = min(low, 0.0)
    span = (high - low) or abs(high) or 1.0
    return (low if zero and low == 0 else low - share * span), high + share * span


@dataclass(frozen=True)
class Frame:
    """The size of a chart and the margins around its plot, in pixels."""

    width: float
    height: float
    left: float = 46
    right: float = 14
    top: float = 12
    bottom: float = 40

    def x(self, low: float, high: float) -> Scale:
        """Return the horizontal scale."""
        return Scale(low, high, self.left, self.width - self.right)

    def y(self, low: float, high: float) -> Scale:
        """Return the vertical scale: larger values are higher up."""
        return Scale(low, high, self.height - self.bottom, self.top)


def drawing(
    width: float, height: float, title: str, description: str, *parts: Child, class_: str = "chart"
) -> Html:
    """Return an `svg` that says to a screen reader what it shows."""
    return tag(
        "svg",
        tag("title", title),
        tag("desc", description),
        *parts,
        class_=class_,
        viewBox=f"0 0 {width:g} {height:g}",
        width=f"{width:g}",
        height=f"{height:g}",
        role="img",
        aria_label=f"{title}. {description}",
    )


def axes(
    frame: Frame,
    x: Scale | LogScale,
    y: Scale,
    *,
    x_ticks: Sequence[float],
    x_format: Callable[[float], str],
    y_format: Callable[[float], str] | None,
    x_label: str,
    y_ticks: int = 4,
) -> Html:
    """Return horizontal grid lines with their values, and the values and the name below."""
    parts: list[Html] = []
    values = y.ticks(y_ticks)
    show = y_format or same_decimals(values)
    for value in values:
        height = y(value)
        parts.append(tag("line", x1=x.start, x2=x.end, y1=height, y2=height, class_="grid"))
        parts.append(tag("text", show(value), x=x.start - 7, y=height + 4, class_="tick end"))
    for value in x_ticks:
        place = x(value)
        parts.append(tag("line", x1=place, x2=place, y1=y.start, y2=y.start + 4, class_="axis"))
        parts.append(tag("text", x_format(value), x=place, y=y.start + 17, class_="tick middle"))
    parts.append(tag("line", x1=x.start, x2=x.end, y1=y.start, y2=y.start, class_="axis"))
    middle = (x.start + x.end) / 2
    parts.append(tag("text", x_label, x=middle, y=frame.height - 6, class_="label middle"))
    return join(parts)


def same_decimals(ticks: Sequence[float]) -> Callable[[float], str]:
    """Return a format that gives every tick the decimals that the finest of them needs."""
    shown = [f"{tick:.6f}".rstrip("0").partition(".")[2] for tick in ticks]
    decimals = max((len(fraction) for fraction in shown), default=0)
    return lambda value: f"{value:,.{decimals}f}".replace("-", MINUS)


def text_width(words: str, font_size: float = FONT_SIZE) -> float:
    """Return about how wide a text will be, in pixels."""
    return len(words) * CHARACTER_WIDTH * font_size


def shortened(words: str, length: int) -> str:
    """Return a label cut to `length` characters, with an ellipsis where something was cut."""
    return words if len(words) <= length else words[: length - 1].rstrip() + "…"
