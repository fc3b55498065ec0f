from __future__ import annotations

import re

import pytest

from edgeproof_benchmarks.charts import (
    Bar,
    Point,
    Series,
    bar_rows,
    frontier,
    label_beside,
    line_chart,
    overlap,
    scatter,
)
from edgeproof_benchmarks.svg import Frame, text_width


def coordinates(polyline: str) -> list[tuple[float, float]]:
    points = re.findall(r'points="([^"]+)"', polyline)[0]
    return [tuple(map(float, pair.split(","))) for pair in points.split()]  # pyright: ignore[reportReturnType]


def test_line_chart__falls_where_the_values_fall():
    points = coordinates(line_chart([Series("loss", [1, 2, 3], [3.0, 2.0, 1.0])], title="Loss"))
    assert [x for x, _ in points] == sorted(x for x, _ in points)
    assert points[0][1] < points[1][1] < points[2][1]


def test_line_chart__a_single_point_is_drawn():
    assert "<circle" in line_chart([Series("loss", [1], [0.5])], title="Loss")


def test_line_chart__says_in_words_where_each_line_ends():
    chart = line_chart([Series("a", [1, 2], [3.0, 2.5]), Series("b", [1, 2], [1.0, 0.25])], title="Loss")
    assert "a ends at 2.50; b ends at 0.250" in chart
    assert "legend" in chart


def test_scatter__names_every_point_and_level():
    points = [Point("teacher", 9.8, 0.97, "teacher"), Point("ONNX <Runtime>", 1.9, 0.968, "shipped")]
    chart = scatter(points, [("baseline", 0.934)], title="Accuracy")
    for words in ("teacher", "ONNX &lt;Runtime&gt;", "baseline 93.4 %"):
        assert words in chart


def radii(chart: str) -> list[float]:
    return [float(r) for r in re.findall(r'<circle[^>]* r="([\d.]+)"', chart)]


def test_scatter__area_is_the_size_of_the_file():
    points = [Point("a", 1.0, 0.9, "other", 4_000_000), Point("b", 2.0, 0.8, "other", 1_000_000)]
    large, small = sorted(radii(scatter(points, [], title="Accuracy")), reverse=True)
    assert large / small == pytest.approx(2, rel=0.02)
    same = [Point(name, 1.0, 0.9, "other") for name in "ab"]
    assert radii(scatter(same, [], title="Accuracy")) == [6.0, 6.0]


def test_frontier__no_point_on_it_is_beaten_in_both():
    points = [
        Point("fast", 1.0, 0.80, "other"),
        Point("beaten", 2.0, 0.79, "other"),
        Point("middle", 2.0, 0.85, "other"),
        Point("as good but slower", 3.0, 0.85, "other"),
        Point("best", 4.0, 0.90, "other"),
    ]
    assert [point.name for point in frontier(points)] == ["fast", "middle", "best"]
    chart = scatter([*points, Point("teacher", 9.0, 0.99, "teacher")], [], title="Accuracy")
    line = re.findall(r'<polyline points="([^"]+)" class="frontier"', chart)
    assert len(line[0].split()) == 3, "a teacher is nothing to ship"


@pytest.mark.parametrize("count", [2, 4, 6])
def test_label_beside__labels_of_points_at_one_place_do_not_overlap(count: int):
    frame, taken = Frame(410, 280), [(193.0, 133.0, 207.0, 147.0)]
    for index in range(count):
        label_beside(f"ONNX Runtime fp{index}", 200, 140, frame, taken)
    pairs = [(a, b) for i, a in enumerate(taken) for b in taken[:i]]
    assert not any(overlap(a, b) for a, b in pairs)
    assert all(box[2] - box[0] >= text_width("ONNX Runtime fp0") - 1 for box in taken[1:])


def test_bar_rows__lengths_are_shares_of_the_longest():
    rows = bar_rows([Bar("a", 5.0, "5 ms", reach=10.0), Bar("b", 2.5, "2.5 ms")])
    assert re.findall(r"width:([\d.]+)%", rows) == ["100.00", "50.00", "25.00"]
