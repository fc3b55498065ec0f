from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from edgeproof_deploy.paired import class_intervals, difference_interval, mcnemar_p, mean_interval


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


def paired_answers(n: int, classes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    labels = np.sort(rng.integers(0, classes, n))
    reference = rng.random(n) < 0.4 + 0.1 * labels
    return labels, reference, np.where(rng.random(n) < 0.1, ~reference, reference)


def test_class_intervals__against_resampling_image_by_image() -> None:
    labels, reference, candidate = paired_answers(600, 4)
    hidden = labels == 3
    found = class_intervals(labels, reference, candidate, hidden)
    rng = np.random.default_rng(2)
    changes: dict[str, list[float]] = {name: [] for name in found}
    for _ in range(2000):
        sides = []
        for right in (reference, candidate):
            sides.append([])
            state = np.random.default_rng(rng.bit_generator.state["state"]["state"] % 2**32)
            for label in range(4):
                own = right[labels == label]
                sides[-1].append(own[state.integers(0, len(own), len(own))].mean())
        rng.random()
        (a, b) = (np.array(side) for side in sides)
        seen, unseen = (a[:3].mean(), b[:3].mean()), (a[3], b[3])
        harmonic = [2 * s * u / (s + u) for s, u in zip(seen, unseen, strict=True)]
        changes["mean_per_class"].append(b.mean() - a.mean())
        changes["seen"].append(seen[1] - seen[0])
        changes["unseen"].append(unseen[1] - unseen[0])
        changes["harmonic_mean"].append(harmonic[1] - harmonic[0])
    for name, values in changes.items():
        low, high = np.percentile(values, [2.5, 97.5])
        assert found[name] == pytest.approx((low, high), abs=0.08 * (high - low)), name


def test_class_intervals__without_held_out_classes_and_without_a_difference() -> None:
    labels, reference, candidate = paired_answers(200, 3)
    assert set(class_intervals(labels, reference, candidate, labels < 0)) == {"mean_per_class"}
    assert class_intervals(labels, reference, reference) == {"mean_per_class": (0.0, 0.0)}


def test_class_intervals__many_classes_are_drawn_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    labels, reference, candidate = paired_answers(400, 5)
    whole = class_intervals(labels, reference, candidate)["mean_per_class"]
    monkeypatch.setattr("edgeproof_deploy.paired.DRAWS_AT_ONCE", 1_000)
    assert class_intervals(labels, reference, candidate)["mean_per_class"] == whole


def test_mean_interval__covers_the_mean_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(200):
        low, high = mean_interval(rng.normal(0.3, 1, 60))
        inside += low <= 0.3 <= high
    assert 180 <= inside <= 199
    assert mean_interval(np.zeros(5)) == (0.0, 0.0)
