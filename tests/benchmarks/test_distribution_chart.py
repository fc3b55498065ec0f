from __future__ import annotations

import re

import numpy as np
import pytest

from edgeproof_benchmarks.distribution_chart import Spread, hills
from edgeproof_benchmarks.svg import Frame, LogScale, round_values


def samples(centre: float, count: int = 400, seed: int = 0) -> np.ndarray:
    return centre * np.exp(0.05 * np.random.default_rng(seed).normal(size=count))


def peak_of(polygon: str) -> float:
    pairs = [tuple(map(float, pair.split(","))) for pair in polygon.split()]
    return min(pairs, key=lambda pair: pair[1])[0]


def test_hills__stand_where_the_samples_are_and_slower_is_further_right() -> None:
    spreads = [Spread("fast", samples(0.2), {"p50": 0.2}), Spread("slow", samples(8.0), {"p50": 8.0})]
    chart = hills(spreads, title="Latency")
    fast, slow = (peak_of(points) for points in re.findall(r'points="([^"]+)"', chart))
    assert fast < slow
    marks = [
        float(x)
        for x in re.findall(r'<line x1="([\d.]+)" x2="[\d.]+" y1="[\d.]+" y2="[\d.]+" class="axis"', chart)
    ]
    assert any(abs(mark - fast) < 12 for mark in marks)
    assert any(abs(mark - slow) < 12 for mark in marks)
    assert "fast: p50 0.20 ms; slow: p50 8.00 ms" in chart


def test_hills__a_single_slow_sample_is_seen() -> None:
    trace = np.append(samples(1.0), 300.0)
    chart = hills([Spread("form", trace, {"p50": 1.0})], title="Latency")
    ticks = [float(x) for x in re.findall(r'<line x1="([\d.]+)"[^>]*class="slow"', chart)]
    assert max(ticks) > 900, "it ends the axis"
    assert ">100</text>" in chart


def test_hills__labels_stay_inside() -> None:
    trace = samples(1.0)
    slowest = float(trace.max())
    chart = hills([Spread("form", trace, {"p99": slowest})], title="Latency")
    place = float(re.findall(r'<text x="([\d.]+)"[^>]*>p99', chart)[0])
    assert place < 960 - 24 - 50


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0.15, 12.0, [0.2, 0.5, 1, 2, 5, 10]), (1.0, 3.5, [1, 1.5, 2, 3]), (4.0, 4.0, [4.0])],
)
def test_round_values__few_enough_and_inside(low: float, high: float, expected: list[float]) -> None:
    assert round_values(low, high) == pytest.approx(expected)


def test_log_scale__equal_ratios_are_equal_lengths() -> None:
    x = LogScale(Frame(300, 100, left=0, right=0).x(-1, 2))
    assert x(1.0) - x(0.1) == pytest.approx(x(10.0) - x(1.0)) == pytest.approx(100)
    assert (x.start, x.end) == (0, 300)
