from __future__ import annotations

import numpy as np
import pytest

from edgeproof_train.heads.selection import choose, choose_factor, likeliest, mean_nll, shares_right

FACTORS = np.concatenate([[0.0], np.logspace(-2, 2, 33)])


def lines(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    return random.normal(size=(60, 7)), random.normal(size=(60, 7)), random.integers(0, 7, 60)


def test_choose__the_first_of_equal_ones() -> None:
    assert choose([3, 1, 2, 1], lambda number: -abs(number - 1.5)) == (1, -0.5)


def test_choose__numbers_after_the_first_break_ties() -> None:
    scores = {"a": (0.5, -2.0), "b": (0.5, -1.0), "c": (0.4, 0.0)}
    assert choose(scores, scores.__getitem__).value == "b"


def test_choose__nan_is_never_chosen() -> None:
    assert choose([1.0, 2.0], lambda number: float("nan") if number == 1 else 0.0).value == 2.0
    with pytest.raises(ValueError, match="no candidate"):
        choose([1.0], lambda _: float("nan"))


def test_shares_right__equal_to_trying_each_factor() -> None:
    base, extra, labels = lines()
    tried = [((base + factor * extra).argmax(axis=1) == labels).mean() for factor in FACTORS]
    np.testing.assert_allclose(shares_right(base, extra, labels, FACTORS), tried)
    assert len(set(tried)) >= 5


def test_shares_right__equal_scores_and_every_sign() -> None:
    random = np.random.default_rng(3)
    for _ in range(50):
        base, extra = random.integers(-2, 3, (2, 20, 4)).astype(np.float32)
        labels = random.integers(0, 4, 20)
        tried = []
        for factor in (0.0, 0.3, 0.7, 4.1):
            scores = base + np.float32(factor) * extra
            own = scores[np.arange(20), labels]
            scores[np.arange(20), labels] = -np.inf
            tried.append((own > scores.max(axis=1)).mean())
        np.testing.assert_allclose(shares_right(base, extra, labels, np.array([0.0, 0.3, 0.7, 4.1])), tried)


def test_shares_right__classes_that_the_extra_does_not_tell_apart() -> None:
    base = np.array([[2.0, 1.0, 0.0], [1.0, 2.0, 0.0], [1.0, 1.0, 0.0]])
    extra = np.array([[1.0, 1.0, 5.0]] * 3)
    shares = shares_right(base, extra, np.zeros(3, int), np.array([0.0, 0.4, 1.0]))
    np.testing.assert_allclose(shares, [1 / 3, 1 / 3, 0])


def test_choose_factor__likelihood_decides_between_equal_accuracies() -> None:
    base, labels = np.array([[1.0, 0.0]] * 4), np.array([0, 0, 0, 0])
    found = choose_factor(base, np.array([[1.0, 0.0]] * 4), labels, FACTORS[FACTORS <= 10])
    assert (found.value, found.accuracy) == (10.0, 1.0)
    assert choose_factor(base, np.zeros((4, 2)), labels, FACTORS).value == 0.0


def test_likeliest__finds_the_lowest_point_of_the_list() -> None:
    base, extra, labels = lines(1)
    tried = [mean_nll(base, extra, labels, factor) for factor in FACTORS]
    assert likeliest(base, extra, labels, FACTORS, 0.5).value == FACTORS[int(np.argmin(tried))]


def test_mean_nll__softmax_by_hand() -> None:
    found = mean_nll(np.array([[1.0, 0.0]]), np.array([[1.0, 0.0]]), np.array([1]), 2.0)
    assert found == pytest.approx(np.log(1 + np.exp(3.0)))
