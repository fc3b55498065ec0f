"""Thresholds of a cascade: by hand, against trying all of them, and where nothing can be chosen."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from edgeproof_deploy.runtime.cascade_step import NEVER
from edgeproof_train.heads.thresholds import Trial, above, best_cut, choose_thresholds, later_right, reached


def trial(may: list[int], confidence: list[float], right: list[int], owned: list[int] | None = None) -> Trial:
    return Trial(
        np.array(may, bool),
        np.array(confidence),
        np.array(right, bool),
        np.array(owned or [1] * len(may), bool),
    )


def score(trials: list[Trial], thresholds: list[float]) -> float:
    """Share of images that are right."""
    return float(later_right([trials[0], *trials], [NEVER, *thresholds], 0).mean())


@pytest.mark.parametrize(
    ("gain", "wanted"),
    [
        ([1, 1, -1, -1], 0.65),
        ([1, 1, 1, 1], 0.0),
        ([-1, -1, -1, -1], NEVER),
        ([-1, 1, -1, 1], 0.0),
        ([1, -1, 1, -1], 0.5),
        ([0, 0, 0, -1], 0.5),
    ],
)
def test_best_cut__keeps_what_gains_most_and_of_equals_the_most(gain: list[float], wanted: float) -> None:
    confidence = np.array([0.9, 0.7, 0.6, 0.4])
    assert best_cut(confidence, np.array(gain, float)) == pytest.approx(wanted)
    shuffled = [2, 0, 3, 1]
    assert best_cut(confidence[shuffled], np.array(gain, float)[shuffled]) == pytest.approx(wanted)


def test_best_cut__images_of_equal_confidence_stay_together() -> None:
    assert best_cut(np.array([0.5, 0.5, 0.2]), np.array([1.0, -3.0, 1.0])) == NEVER
    assert best_cut(np.array([0.5, 0.5, 0.2]), np.array([3.0, -1.0, -1.0])) == pytest.approx(0.35)
    assert best_cut(np.zeros(0), np.zeros(0)) == 0


def test_choose_thresholds__two_steps_by_hand() -> None:
    first = trial([1, 1, 1, 0], [0.9, 0.6, 0.5, 0.99], [1, 1, 0, 0])
    last = trial([1, 1, 1, 1], [0.8, 0.8, 0.8, 0.8], [0, 0, 1, 1])
    assert choose_thresholds([first, last], [None, None]) == pytest.approx([0.55, 0.0])
    assert choose_thresholds([first, last], [0.7, None]) == [0.7, 0.0]
    # Where the last image of three weighs as much as ten, being passed on is worth more than two right.
    same = trial([1, 1, 1], [0.5, 0.5, 0.5], [1, 1, 0])
    better = trial([1, 1, 1], [0.5] * 3, [0, 0, 1])
    assert choose_thresholds([same, better], [None, None]) == [0, 0]
    assert choose_thresholds([same, better], [None, None], np.array([1, 1, 10])) == [NEVER, 0]


def test_choose_thresholds__as_good_as_trying_all_of_them() -> None:
    for seed in range(5):
        rng = np.random.default_rng(seed)
        trials = [
            Trial(
                rng.random(30) < 0.7, rng.random(30).round(1), rng.random(30) < chance, rng.random(30) < 0.5
            )
            for chance in (0.5, 0.6, 0.7)
        ]
        found = choose_thresholds(trials, [None] * 3)
        grid = [*np.arange(-0.05, 1.1, 0.1), NEVER]
        best = max(score(trials, [a, b, 0.0]) for a, b in product(grid, grid))
        start = score(trials, [0.0, 0.0, 0.0])
        assert score(trials, found) >= start
        # Taking turns can end a little below the best pair; it did so by one image at most here.
        assert score(trials, found) >= best - 1 / 30 - 1e-9


def test_choose_thresholds__step_without_images_of_its_own_takes_few() -> None:
    confidence = np.linspace(0.1, 1.0, 100)
    none = [0] * 100
    held_out = trial([1] * 100, confidence.tolist(), none, none)
    last = trial([1] * 100, confidence.tolist(), [1] * 100)
    found = choose_thresholds([held_out, last], [None, None], false_answers=0.05)
    assert (confidence >= found[0]).sum() == 5
    assert choose_thresholds([held_out, last], [None, None], false_answers=0.0)[0] == NEVER
    assert choose_thresholds([held_out, last], [None, None], false_answers=1.0)[0] == 0


def test_above__ties_are_left_out_together() -> None:
    assert above(np.array([0.9, 0.5, 0.5, 0.2]), 2) == pytest.approx(0.7)
    assert above(np.array([0.5, 0.5]), 1) == NEVER
    assert above(np.zeros(0), 3) == 0


def test_reached__what_passes_all() -> None:
    first = trial([1, 1, 0], [0.9, 0.1, 0.9], [1, 1, 1])
    assert reached([first], [0.5], 3).tolist() == [False, True, True]
    assert reached([], [], 2).tolist() == [True, True]
