from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import brier_score_loss, log_loss
from torch.nn import functional as F
from torchmetrics.functional.classification import multiclass_calibration_error

from edgeproof_train.calibration import (
    HIGHEST,
    LOWEST,
    calibration_metrics,
    ece,
    ece_equal_mass,
    fit_temperature,
    probabilities,
)


def drawn(
    seed: int, images: int = 500, classes: int = 6, sharp: float = 3.0
) -> tuple[np.ndarray, np.ndarray]:
    """Return scores that are `sharp` times too confident, and labels drawn from their true probabilities."""
    generator = np.random.default_rng(seed)
    honest = 2 * generator.normal(size=(images, classes))
    chance = generator.gumbel(size=honest.shape)
    return sharp * honest + 5, (honest + chance).argmax(axis=1)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
@pytest.mark.parametrize("bins", [15, 4])
def test_calibration_metrics__match_torchmetrics_and_scikit_learn(bins: int, temperature: float) -> None:
    logits, labels = drawn(0)
    found = calibration_metrics(logits, labels, temperature, bins)
    p = torch.softmax(torch.from_numpy(logits) / temperature, dim=1)
    expected = multiclass_calibration_error(p, torch.from_numpy(labels), 6, n_bins=bins, norm="l1")
    assert found["ece"] == pytest.approx(float(expected), abs=1e-6)
    assert found["nll"] == pytest.approx(log_loss(labels, p.numpy()))
    whole: Any = False
    brier = brier_score_loss(labels, p.numpy(), labels=np.arange(6), scale_by_half=whole)
    assert found["brier"] == pytest.approx(brier)


def test_ece__by_hand() -> None:
    confidence, right = np.array([0.9, 0.8, 0.55, 1.0]), np.array([1, 0, 1, 1])
    # Two bins: nothing in the lower one; the upper holds all, 3 of 4 right at a mean of 0.8125.
    assert ece(confidence, right, 2) == pytest.approx(0.0625)
    # By mass: 0.55 and 0.8 with one right, 0.9 and 1.0 with both.
    assert ece_equal_mass(confidence, right, 2) == pytest.approx((abs(1 - 1.35) + abs(2 - 1.9)) / 4)
    assert ece(np.array([0.5, 0.500001]), np.array([1, 0]), 2) == pytest.approx(0.5, abs=1e-5)
    assert ece(np.zeros(1), np.zeros(1), 3) == 0


def test_ece_equal_mass__is_the_mean_over_equal_parts() -> None:
    logits, labels = drawn(1, images=150)
    p = probabilities(logits)
    confidence, right = p.max(axis=1), p.argmax(axis=1) == labels
    order = np.argsort(confidence)
    parts = order.reshape(15, 10)
    gaps = [abs(right[part].mean() - confidence[part].mean()) for part in parts]
    assert ece_equal_mass(confidence, right) == pytest.approx(np.mean(gaps))
    shuffled = np.random.default_rng(0).permutation(150)
    assert ece_equal_mass(confidence[shuffled], right[shuffled]) == pytest.approx(np.mean(gaps))


def test_calibration_metrics__leaves_out_what_has_no_label() -> None:
    logits, labels = drawn(2)
    some = np.where(np.arange(500) % 3, labels, -1)
    expected = calibration_metrics(logits[some >= 0], labels[some >= 0])
    assert calibration_metrics(logits, some) == expected


@pytest.mark.parametrize("sharp", [0.3, 1.0, 3.0, 20.0])
def test_fit_temperature__finds_how_much_too_sharp_the_scores_are(sharp: float) -> None:
    logits, labels = drawn(3, images=4000, sharp=sharp)
    temperature = fit_temperature(logits, labels)
    assert temperature == pytest.approx(sharp, rel=0.1)
    before, after = calibration_metrics(logits, labels), calibration_metrics(logits, labels, temperature)
    assert after["nll"] <= before["nll"]
    assert after["ece"] < 0.03
    assert np.array_equal(probabilities(logits).argmax(1), probabilities(logits, temperature).argmax(1))


def test_fit_temperature__is_where_the_slope_vanishes() -> None:
    logits, labels = drawn(4)
    temperature = torch.tensor(fit_temperature(logits, labels), dtype=torch.float64, requires_grad=True)
    F.cross_entropy(torch.from_numpy(logits) / temperature, torch.from_numpy(labels)).backward()
    assert temperature.grad is not None
    assert abs(temperature.grad.item()) < 1e-10


def test_fit_temperature__has_an_end_where_there_is_no_best_one() -> None:
    logits, _ = drawn(5)
    assert fit_temperature(logits, logits.argmax(axis=1)) == LOWEST
    assert fit_temperature(logits, logits.argmin(axis=1)) == HIGHEST
    assert fit_temperature(np.zeros((5, 3)), np.zeros(5, int)) == HIGHEST


def test_calibration__bad_input() -> None:
    logits, labels = drawn(6, images=4)
    with pytest.raises(ValueError, match=r"got \(4, 6\) and \(3,\)"):
        calibration_metrics(logits, labels[:3])
    with pytest.raises(ValueError, match="no image has a label"):
        fit_temperature(logits, np.full(4, -1))
    with pytest.raises(ValueError, match="below 6, got 6"):
        fit_temperature(logits, np.full(4, 6))
    with pytest.raises(ValueError, match="not finite"):
        calibration_metrics(np.full((4, 6), np.inf), labels)
