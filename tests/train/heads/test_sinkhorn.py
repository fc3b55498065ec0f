from __future__ import annotations

import numpy as np
import pytest

from edgeproof_train.heads import sinkhorn
from edgeproof_train.heads.proxies import unit
from edgeproof_train.heads.sinkhorn import SoftLabels, balanced, class_sums, column_factors

T = 0.05


def made(count: int = 80, classes: int = 6) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return unit(rng.normal(size=(count, 12)) + 0.5), unit(rng.normal(size=(classes, 12)))


def dense(labels: SoftLabels, factors: np.ndarray) -> np.ndarray:
    return np.concatenate([part for _, part in balanced(labels, factors)])


def reference(p: np.ndarray, marginal: np.ndarray, iterations: int) -> np.ndarray:
    """Balance as InMaP does, on the whole matrix, float64."""
    p = p / len(p)
    for _ in range(iterations):
        p = p / p.sum(axis=0) * marginal
        p = p / p.sum(axis=1, keepdims=True) / len(p)
    return p * len(p)


def test_soft_labels__softmax_of_cosines() -> None:
    features, text = made()
    scores = np.exp(features.astype(np.float64) @ text.T / T)
    expected = scores / scores.sum(axis=1, keepdims=True)
    labels = SoftLabels(features, text, T)
    np.testing.assert_allclose(dense(labels, np.ones(6)), expected, atol=1e-6)
    np.testing.assert_allclose(labels.masses(), expected.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(labels.rows(np.array([5, 2])), expected[[5, 2]], atol=1e-6)


def test_soft_labels__kept_or_computed_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    features, text = made()
    kept = column_factors(SoftLabels(features, text, T), np.full(6, 1 / 6))
    monkeypatch.setattr(sinkhorn, "KEPT_BYTES", 0)
    np.testing.assert_allclose(
        column_factors(SoftLabels(features, text, T), np.full(6, 1 / 6)), kept, rtol=1e-5
    )


@pytest.mark.parametrize("iterations", [1, 3, 20])
def test_column_factors__the_papers_iterations(iterations: int) -> None:
    features, text = made()
    labels = SoftLabels(features, text, T)
    marginal = np.array([0.3, 0.1, 0.1, 0.1, 0.2, 0.2])
    expected = reference(dense(labels, np.ones(6)).astype(np.float64), marginal, iterations)
    np.testing.assert_allclose(
        dense(labels, column_factors(labels, marginal, iterations)), expected, atol=1e-5
    )


def test_column_factors__row_sums_are_one_and_column_sums_the_marginal() -> None:
    features, text = made()
    labels = SoftLabels(features, text, T)
    found = dense(labels, column_factors(labels, np.full(6, 1 / 6), 500))
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(found.sum(axis=0), 80 / 6, rtol=1e-4)


def test_column_factors__masses_of_their_own_change_nothing() -> None:
    labels = SoftLabels(*made(), T)
    assert (column_factors(labels, labels.masses()) == 1).all()


def test_column_factors__order_of_images_and_classes() -> None:
    features, text = made()
    rows, columns = np.random.default_rng(1).permutation(80), np.array([4, 2, 0, 5, 1, 3])
    plain = column_factors(SoftLabels(features, text, T), np.full(6, 1 / 6))
    np.testing.assert_allclose(
        column_factors(SoftLabels(features[rows], text[columns], T), np.full(6, 1 / 6)),
        plain[columns],
        rtol=1e-4,
    )


def test_balanced__a_column_without_mass_and_a_row_that_loses_all() -> None:
    features = unit(np.array([[1.0, 0, 0], [0, 1.0, 0], [0.9, 0.1, 0]]))
    text = unit(np.array([[1.0, 0, 0], [0, 1.0, 0], [-1.0, -1.0, 0]]))
    labels = SoftLabels(features, text, 0.005)
    assert labels.masses()[2] == 0
    for marginal in (np.full(3, 1 / 3), np.array([1.0, 0, 0]), np.array([0, 0, 1.0])):
        found = dense(labels, column_factors(labels, marginal))
        assert np.isfinite(found).all()
        np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-6)


def test_class_sums__one_hot_where_sure() -> None:
    features, text = made()
    labels = SoftLabels(features, text, T)
    soft = dense(labels, np.ones(6))
    hard = np.where((soft.max(axis=1) > 0.6)[:, None], np.eye(6)[soft.argmax(axis=1)], soft)
    assert 0 < (soft.max(axis=1) > 0.6).sum() < 80
    np.testing.assert_allclose(class_sums(labels, np.ones(6), 0.6), hard.T @ features, atol=1e-4)
    np.testing.assert_allclose(class_sums(labels, np.ones(6), 1.0), soft.T @ features, atol=1e-4)
    assert np.array_equal(dense(labels, np.ones(6)), soft)
