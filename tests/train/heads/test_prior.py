from __future__ import annotations

import numpy as np
import pytest

from edgeproof_train.heads.prior import effective_classes, estimate_prior, prior_shift

TRUE = np.array([0.7, 0.2, 0.07, 0.03])


def calibrated(count: int = 4000, prior: np.ndarray = TRUE, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return calibrated probabilities under a uniform prior of labels drawn with another, and the labels."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(len(prior), count, p=prior)
    means = 1.5 * np.eye(len(prior))
    seen = means[labels] + rng.normal(size=(count, len(prior)))
    logits = -((seen[:, None] - means) ** 2).sum(axis=2) / 2
    likely = np.exp(logits - logits.max(axis=1, keepdims=True))
    return likely / likely.sum(axis=1, keepdims=True), labels


@pytest.mark.parametrize("strength", [1.0, 2.0, 30.0])
def test_estimate_prior__log_posterior_never_falls(strength: float) -> None:
    for seed in range(5):
        rng = np.random.default_rng(seed)
        p = rng.dirichlet(np.full(6, 0.3), size=40)
        start = rng.dirichlet(np.full(6, 3.0))
        trace = np.array(estimate_prior(p, start, strength=strength).trace)
        assert len(trace) > 3
        assert (np.diff(trace) >= -1e-12).all()


def test_estimate_prior__finds_the_prior_of_calibrated_probabilities() -> None:
    p, _ = calibrated()
    found = estimate_prior(p, iterations=1000)
    assert found.converged
    assert np.abs(found.prior - TRUE).max() < 0.02
    assert np.abs(p.mean(axis=0) - TRUE).max() > 0.1


def test_estimate_prior__is_the_fixed_point_of_its_own_mean() -> None:
    p, _ = calibrated(300)
    found = estimate_prior(p, iterations=5000, tolerance=1e-12).prior
    joint = p * found
    again = (joint / joint.sum(axis=1, keepdims=True)).mean(axis=0)
    np.testing.assert_allclose(again, found, atol=1e-10)


def test_estimate_prior__one_step_by_hand() -> None:
    p = np.array([[0.5, 0.5], [0.9, 0.1]])
    np.testing.assert_allclose(estimate_prior(p, iterations=1).prior, [0.7, 0.3])
    np.testing.assert_allclose(estimate_prior(p, iterations=1, strength=2).prior, [2.4 / 4, 1.6 / 4])
    start = np.array([0.8, 0.2])
    np.testing.assert_allclose(estimate_prior(p, start, iterations=1).prior, [0.7, 0.3])


def test_estimate_prior__a_stronger_dirichlet_is_nearer_to_uniform() -> None:
    p, _ = calibrated(200)
    spread = [effective_classes(estimate_prior(p, strength=a).prior) for a in (1.0, 5.0, 1e6)]
    assert spread[0] < spread[1] < spread[2]
    assert spread[2] == pytest.approx(4, abs=1e-3)


def test_estimate_prior__a_class_without_mass_gives_no_nan() -> None:
    p = np.array([[1.0, 0.0, 0.0], [0.4, 0.6, 0.0]])
    found = estimate_prior(p)
    assert np.isfinite(found.prior).all()
    assert np.isfinite(found.trace).all()
    assert found.prior[2] == 0


def test_estimate_prior__order_of_images_and_classes() -> None:
    p, _ = calibrated(100)
    rows, columns = np.random.default_rng(1).permutation(100), np.array([2, 0, 3, 1])
    plain = estimate_prior(p).prior
    np.testing.assert_allclose(estimate_prior(p[rows]).prior, plain, rtol=1e-9)
    np.testing.assert_allclose(estimate_prior(p[:, columns]).prior, plain[columns], rtol=1e-9)


def test_prior_shift__makes_more_images_right() -> None:
    p, labels = calibrated()
    shifted = np.log(p) + prior_shift(estimate_prior(p).prior)
    assert (shifted.argmax(axis=1) == labels).mean() > (p.argmax(axis=1) == labels).mean() + 0.03


def test_prior_shift__none_where_nothing_changes() -> None:
    assert not prior_shift(np.full(5, 0.2)).any()
    assert not prior_shift(TRUE, TRUE).any()


def test_effective_classes__ends() -> None:
    assert effective_classes(np.full(8, 1 / 8)) == pytest.approx(8)
    assert effective_classes(np.eye(8)[3]) == pytest.approx(1)


@pytest.mark.parametrize(
    ("p", "settings", "match"),
    [
        (np.zeros((0, 3)), {}, "expected probabilities"),
        (np.array([[0.5, 0.6]]), {}, "sum to 1"),
        (np.array([[np.nan, 0.5]]), {}, "sum to 1"),
        (np.array([[0.5, 0.5]]), {"start_K": np.array([1.0, 0.0])}, "positive start"),
        (np.array([[0.5, 0.5]]), {"strength": 0.5}, "1 or more"),
    ],
)
def test_estimate_prior__refused(p: np.ndarray, settings: dict, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        estimate_prior(p, **settings)
