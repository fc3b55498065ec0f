from __future__ import annotations

import numpy as np
import pytest

from edgeproof_benchmarks.intervals import allowed_over, at_most, fewest_for, median_interval


@pytest.mark.parametrize(("q", "fewest"), [(0.9, 64), (0.99, 662)])
def test_fewest_for__is_what_mlperf_asks_of_single_stream_and_multi_stream(q: float, fewest: int):
    assert fewest_for(q) == fewest
    assert (allowed_over(fewest - 1, q), allowed_over(fewest, q)) == (0, 1)


def test_at_most__a_binomial_by_hand():
    assert at_most(0, 3, 0.5) == pytest.approx(1 / 8)
    assert at_most(1, 3, 0.5) == pytest.approx(4 / 8)
    assert at_most(3, 3, 0.5) == 1.0


def test_allowed_over__the_bound_it_proves_is_rarely_wrong():
    random = np.random.default_rng(0)
    count, q, over = 500, 0.9, allowed_over(500, 0.9)
    draws = np.sort(random.random((4000, count)), axis=1)
    assert (draws[:, count - over] < q).mean() < 0.012
    assert (draws[:, count - over - 2] < q).mean() > 0.01


def test_median_interval__holds_the_median_as_often_as_it_says():
    random = np.random.default_rng(1)
    found = [median_interval(random.normal(size=9).tolist()) for _ in range(3000)]
    held = np.mean([one.low <= 0 <= one.high for one in found])
    assert found[0].confidence == pytest.approx(0.9609, abs=1e-4)
    assert held == pytest.approx(0.9609, abs=0.015)


def test_median_interval__few_values_say_how_little_they_prove():
    assert median_interval([2.0]).confidence == 0.0
    assert median_interval([3.0, 1.0, 2.0]).confidence == pytest.approx(0.75)
    with pytest.raises(ValueError, match="at least one"):
        median_interval([])
