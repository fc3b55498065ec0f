from __future__ import annotations

import numpy as np
import pytest

from edgeproof_deploy.reliability import reliability


def test_reliability__by_hand():
    confidence = np.array([0.95, 0.97, 0.61, 0.63])
    found = reliability(confidence, np.array([True, False, True, True]))
    assert [(one["low"], one["high"], one["images"]) for one in found["bins"]] == [
        (0.6, 0.6667, 2),
        (0.9333, 1.0, 2),
    ]
    assert [one["accuracy"] for one in found["bins"]] == [1.0, 0.5]
    assert found["ece"] == pytest.approx((2 * 0.38 + 2 * 0.46) / 4)
    assert (found["accuracy"], found["images"]) == (0.75, 4)
    assert found["confidence"] == pytest.approx(0.79)


def test_reliability__bins_sum_to_the_error_and_the_images():
    random = np.random.default_rng(0)
    confidence = random.uniform(0.01, 1.0, 500)
    found = reliability(confidence, random.random(500) < confidence**2)
    gaps = [one["images"] * abs(one["accuracy"] - one["confidence"]) for one in found["bins"]]
    assert sum(gaps) / 500 == pytest.approx(found["ece"], abs=1e-5)
    assert sum(one["images"] for one in found["bins"]) == 500


def test_reliability__the_ends_of_the_scale_have_a_bin():
    found = reliability(np.array([0.0, 1.0]), np.array([False, True]))
    assert [(one["low"], one["images"]) for one in found["bins"]] == [(0.0, 1), (0.9333, 1)]
    assert found["ece"] == 0.0
