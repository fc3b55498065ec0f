from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from edgeproof_deploy.paired import difference_interval, mcnemar_p


@pytest.mark.parametrize(("b", "c"), [(0, 0), (1, 0), (3, 9), (9, 3), (40, 40), (200, 130)])
def test_mcnemar_p__against_the_binomial_test(b: int, c: int) -> None:
    expected = binomtest(b, b + c).pvalue if b + c else 1.0
    assert mcnemar_p(b, c) == pytest.approx(expected)


def test_difference_interval__no_difference() -> None:
    right = np.arange(100) % 3 > 0
    assert difference_interval(right, right) == (0.0, 0.0)


def test_difference_interval__against_the_normal_approximation() -> None:
    rng = np.random.default_rng(0)
    reference = rng.random(4000) < 0.9
    candidate = np.where(rng.random(4000) < 0.05, ~reference, reference)
    difference = candidate.astype(float) - reference
    low, high = difference_interval(reference, candidate)
    error = difference.std() / np.sqrt(4000)
    assert low == pytest.approx(difference.mean() - 1.96 * error, abs=0.1 * error)
    assert high == pytest.approx(difference.mean() + 1.96 * error, abs=0.1 * error)
    assert difference_interval(reference, candidate) == (low, high)
