from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from edgeproof_train.calibration import fit_temperature, probabilities
from edgeproof_train.heads.weights import choose_sharpness, choose_weights, choose_z_weights, combined

LABELS = np.random.default_rng(0).integers(0, 5, 200)


def classifier(skill: float, seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=(200, 5))
    return probabilities(noise + skill * np.eye(5)[LABELS])


def test_choose_weights__are_those_of_highest_likelihood() -> None:
    parts = [classifier(2.0, 1), classifier(1.0, 2), classifier(0.0, 3)]
    found = choose_weights(parts, LABELS, prior=0.0)

    def loss(logits: np.ndarray) -> float:
        return -np.log(combined(parts, np.exp(logits))[np.arange(200), LABELS]).mean()

    oracle = np.exp(minimize(loss, np.zeros(3), method="Nelder-Mead", options={"xatol": 1e-6}).x)
    np.testing.assert_allclose(found, oracle / oracle.sum(), atol=2e-3)
    assert found.sum() == pytest.approx(1)
    assert found[0] > found[1] > found[2]


def test_choose_weights__few_images_leave_them_near_each_other() -> None:
    parts = [classifier(4.0, 1), classifier(1.0, 2)]
    few = [part[:2] for part in parts]
    assert abs(choose_weights(few, LABELS[:2])[0] - 0.5) < 0.15
    assert choose_weights(parts, LABELS)[0] > 0.9


def test_choose_weights__a_classifier_that_gives_the_truth_nothing() -> None:
    wrong = 1 - np.eye(5)[LABELS]
    found = choose_weights([wrong / 4, classifier(2.0, 1)], LABELS, prior=0.0)
    np.testing.assert_allclose(found, [0, 1], atol=1e-6)


def test_choose_weights__shapes_must_fit() -> None:
    with pytest.raises(ValueError, match=r"\(200, 4\), \(200, 5\)"):
        choose_weights([classifier(1.0, 1), classifier(1.0, 1)[:, :4]], LABELS)
    with pytest.raises(ValueError, match="same images"):
        choose_weights([classifier(1.0, 1)], LABELS[:10])


def test_combined__mean_of_backbones() -> None:
    parts = [classifier(1.0, 1), classifier(1.0, 2)]
    np.testing.assert_allclose(combined(parts, [3, 1]), 0.75 * parts[0] + 0.25 * parts[1])
    np.testing.assert_allclose(combined(parts, [1, 1]).sum(axis=1), 1)
    for weights in ([1.0], [0.0, 0.0], [2.0, -1.0]):
        with pytest.raises(ValueError, match="2 classifiers"):
            combined(parts, weights)


def test_choose_sharpness__is_the_temperature_where_there_are_many_images() -> None:
    logits = 3.0 * np.log(classifier(1.5, 1))
    assert choose_sharpness(logits, LABELS) == pytest.approx(1 / fit_temperature(logits, LABELS), rel=0.05)


def test_choose_sharpness__stays_finite_where_every_image_is_right() -> None:
    logits = np.eye(5)[LABELS[:50]]
    assert choose_sharpness(logits, LABELS[:50]) < 10
    assert choose_sharpness(1000 * logits, LABELS[:50]) == pytest.approx(
        choose_sharpness(logits, LABELS[:50]) / 1000, rel=1e-2
    )


def test_choose_z_weights__a_useless_classifier_counts_nothing() -> None:
    scores = [np.log(classifier(3.0, 1)), np.random.default_rng(9).normal(size=(200, 5))]
    found = choose_z_weights([(one - one.mean(1)[:, None]) / one.std(1)[:, None] for one in scores], LABELS)
    assert found[0] > 1.5
    assert found[1] < 0.25


def test_choose_z_weights__is_where_the_likelihood_falls_to_all_sides() -> None:
    scores = np.stack([np.log(classifier(2.0, 1)), np.log(classifier(1.5, 2))])
    scores = (scores - scores.mean(axis=2, keepdims=True)) / scores.std(axis=2, keepdims=True)

    def loss(factors: np.ndarray) -> float:
        logits = np.tensordot(factors, scores, axes=1)
        spread = np.log(np.exp(logits).sum(axis=1)).mean()
        return float(spread - 200 / 201 * logits[np.arange(200), LABELS].mean())

    found = choose_z_weights(list(scores), LABELS)
    for step in np.vstack([np.eye(2), -np.eye(2)]) * 0.02:
        assert loss(found) <= loss(found + step) + 1e-9
