from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import bootstrap

from edgeproof_train.retrieval.differences import difference_of


def test_difference_of__agrees_with_scipy() -> None:
    random = np.random.default_rng(0)
    reference = random.uniform(size=300)
    candidate = np.clip(reference + random.normal(0.02, 0.1, 300), 0, 1)
    found = difference_of(reference, candidate)
    drawn = bootstrap((candidate - reference,), np.mean, method="percentile", n_resamples=5000, rng=1)
    assert found["delta"] == pytest.approx((candidate - reference).mean())
    interval = drawn.confidence_interval
    assert (found["low"], found["high"]) == pytest.approx((interval.low, interval.high), abs=1e-3)
    assert found["low"] < found["delta"] < found["high"]


def test_difference_of__the_same_model() -> None:
    values = np.random.default_rng(1).uniform(size=40)
    assert difference_of(values, values) == {"delta": 0, "low": 0, "high": 0}


def test_difference_of__queries_that_do_not_count() -> None:
    nan = np.nan
    found = difference_of(np.array([0.5, nan, 0.5]), np.array([0.75, nan, 0.75]))
    assert found == pytest.approx({"delta": 0.25, "low": 0.25, "high": 0.25})
    with pytest.raises(ValueError, match="the same queries"):
        difference_of(np.array([0.5, nan]), np.array([0.5, 0.5]))
    with pytest.raises(ValueError, match="no query counts"):
        difference_of(np.array([nan]), np.array([nan]))
