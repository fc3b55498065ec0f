from __future__ import annotations

import re

from edgeproof_benchmarks.answer_data import Bin, Calibration
from edgeproof_benchmarks.reliability_chart import reliability_chart


def bars(*bins: Bin) -> list[dict[str, str]]:
    """Return the attributes of the bars."""
    source = reliability_chart(Calibration(0.1, 0.7, 0.6, bins, 10))
    return [dict(re.findall(r'([\w-]+)="([^"]*)"', one)) for one in re.findall("<rect[^>]*>", source)]


def test_reliability_chart__a_bar_is_as_high_as_its_accuracy():
    low, high = bars(Bin(0.2, 0.4, 5, 0.3, 0.25), Bin(0.8, 1.0, 5, 0.9, 1.0))
    assert abs(float(high["height"]) / float(low["height"]) - 4) < 0.05
    assert float(low["y"]) + float(low["height"]) == float(high["y"]) + float(high["height"])
    assert float(low["x"]) < float(high["x"])


def test_reliability_chart__a_bin_that_is_never_right_can_be_seen():
    (bar,) = bars(Bin(0.9, 1.0, 5, 0.95, 0.0))
    assert float(bar["height"]) >= 1


def test_reliability_chart__more_images_are_darker():
    few, many = bars(Bin(0.2, 0.4, 1, 0.3, 0.3), Bin(0.8, 1.0, 9, 0.9, 0.9))
    assert float(few["fill-opacity"]) < float(many["fill-opacity"]) == 1
