from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from scipy.stats import norm

from edgeproof_configs.errors import DataError
from edgeproof_train.heads.evidence import Evidence, evidence_of
from edgeproof_train.heads.proxies import unit
from edgeproof_train.heads.transclip import Adaptation, Mixture, TransCLIP, nearest_images, unit_or

CLASSES = 6


def clusters(counts: list[int], seed: int = 0, dim: int = 32) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return images in clusters of given sizes, text beside their means, and the classes."""
    rng = np.random.default_rng(seed)
    means = unit(rng.normal(size=(len(counts), dim)))
    labels = np.repeat(np.arange(len(counts)), counts)
    images = unit(means[labels] + 0.13 * rng.normal(size=(len(labels), dim)) + 0.1)
    return images, unit(means + 0.2 * rng.normal(size=means.shape)), labels


def evidence(
    images: np.ndarray,
    text: np.ndarray,
    labels: np.ndarray,
    *,
    shots: int = 0,
    val: int = 0,
    scale: float = 30.0,
) -> Evidence:
    """Return evidence whose shots and validation images are the first of each class, not unlabelled ones."""
    place = np.arange(len(labels)) - np.searchsorted(labels, labels)
    few, held = place < shots, (place >= shots) & (place < shots + val)
    more: dict[str, Any] = {"features": images[few], "labels": labels[few]} if shots else {}
    if val:
        more |= {"val_features": images[held], "val_labels": labels[held]}
    names = [f"c{row}" for row in range(len(text))]
    return evidence_of(names, text=text, unlabelled=images[~(few | held)], logit_scale=scale, **more)


def gaussian(images: np.ndarray, mean: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Return log densities (N,), diagonal covariance."""
    return norm.logpdf(images.astype(np.float64), mean, np.sqrt(variance)).sum(axis=1)


def accuracy(scores: np.ndarray, labels: np.ndarray) -> float:
    return float((scores.argmax(axis=1) == labels).mean())


@pytest.mark.parametrize("shots", [0, 1, 4])
def test_fit__not_below_zero_shot_on_balanced_images(shots: int) -> None:
    for seed in range(3):
        images, text, labels = clusters([40] * CLASSES, seed)
        head = TransCLIP.fit(TransCLIP.Config(), evidence(images, text, labels, shots=shots)).head
        assert accuracy(head.logits(images), labels) >= accuracy(images @ text.T, labels)


def test_fit__gains_over_zero_shot() -> None:
    gains = []
    for seed in range(4):
        images, text, labels = clusters([40] * CLASSES, seed)
        head = TransCLIP.fit(TransCLIP.Config(), evidence(images, text, labels)).head
        gains.append(accuracy(head.logits(images), labels) - accuracy(images @ text.T, labels))
    assert min(gains) > 0.004


@pytest.mark.parametrize("scale", [1.0, 100.0, 5000.0])
@pytest.mark.parametrize(
    "counts", [[40] * CLASSES, [60, 30, 3, 2, 0, 0], [1, 0, 0, 0, 0, 0], [1, 1, 0, 0, 0, 0]]
)
def test_fit__never_nan(counts: list[int], scale: float) -> None:
    images, text, labels = clusters(counts)
    head = TransCLIP.fit(TransCLIP.Config(), evidence(images, text, labels, scale=scale)).head
    assert np.isfinite(head.logits(images)).all()


def test_fit__images_that_are_all_the_same() -> None:
    images, text, labels = clusters([1, 1, 1, 1, 1, 1])
    same = np.repeat(images[:1], 20, axis=0)
    head = TransCLIP.fit(TransCLIP.Config(), evidence(same, text, np.zeros(20, np.int64))).head
    assert np.isfinite(head.logits(images)).all()
    assert len(labels) == CLASSES


def test_fit__the_linear_head_is_the_mixture_and_text() -> None:
    images, text, labels = clusters([30] * CLASSES)
    found = evidence(images, text, labels)
    config = TransCLIP.Config(outer_steps=2)
    mixture = Adaptation(config, found, None, 1.0)._adapted(0.0)
    expected = np.stack(
        [
            30 * images @ text[k] + gaussian(images, m, mixture.variance) / 50
            for k, m in enumerate(mixture.means)
        ],
        axis=1,
    )
    scores = TransCLIP.fit(config, found).head.logits(images)
    np.testing.assert_allclose(
        scores - scores[:, :1], expected - expected[:, :1], atol=2e-3 * np.abs(expected).max()
    )


def test_log_likelihood__up_to_what_classes_share() -> None:
    rng = np.random.default_rng(0)
    mixture = Mixture(unit(rng.normal(size=(3, 5))), rng.uniform(0.1, 1, 5).astype(np.float32))
    images = unit(rng.normal(size=(4, 5)))
    expected = np.stack([gaussian(images, mean, mixture.variance) for mean in mixture.means], axis=1)
    found = mixture.log_likelihood(images)
    np.testing.assert_allclose(found - found[:, :1], expected - expected[:, :1], atol=1e-5)


def test_adaptation__one_round_in_float64() -> None:
    images, text, labels = clusters([12] * CLASSES)
    found = evidence(images, text, labels, shots=2)
    assert found.shots is not None
    assert found.unlabelled is not None
    x, t, f = (
        found.unlabelled.astype(np.float64),
        text.astype(np.float64),
        found.shots.features.astype(np.float64),
    )
    onehot = np.eye(CLASSES)[found.shots.labels]
    cosines = x @ x.T
    np.fill_diagonal(cosines, -np.inf)
    near = np.zeros_like(cosines)
    for row, best in enumerate(np.argsort(-cosines, axis=1)[:, :3]):
        near[row, best] = np.maximum(cosines[row, best], 0)

    def soft(scores: np.ndarray) -> np.ndarray:
        raised = np.exp(scores - scores.max(axis=1, keepdims=True))
        return raised / raised.sum(axis=1, keepdims=True)

    prior = 30 * x @ t.T
    mu = onehot.T @ f / 2
    mu /= np.linalg.norm(mu, axis=1, keepdims=True)
    likely = -((x[:, None] - mu) ** 2).sum(axis=2) * x.shape[1] / 2
    z = soft(prior)
    for _ in range(5):
        z = soft(0.5 * prior + (likely + 50 / 6 * (near.T @ z + near @ z)) / 50)
    share = 50 * 0.02 / len(f)
    sums = z.T @ x / len(x) + share * onehot.T @ f
    mu = sums / np.linalg.norm(sums, axis=1, keepdims=True)
    spread = (z[:, :, None] * (x[:, None] - mu) ** 2).sum(axis=(0, 1)) / len(x)
    spread += share * (onehot[:, :, None] * (f[:, None] - mu) ** 2).sum(axis=(0, 1))
    mixture = Adaptation(TransCLIP.Config(outer_steps=1), found, found.shots, 0.5)._adapted(0.02)
    np.testing.assert_allclose(mixture.means, mu, atol=1e-4)
    np.testing.assert_allclose(mixture.variance, spread / (1 + 50 * 0.02), rtol=2e-3)


def test_nearest_images__sparse_and_symmetric() -> None:
    images, _, _ = clusters([20] * 3)
    found = nearest_images(images, 3)
    assert found.nnz <= 2 * 3 * 60
    assert abs(found - found.T).max() < 1e-6
    assert found.diagonal().max() == 0
    dense = images @ images.T
    np.fill_diagonal(dense, -1)
    first = dense[7].argsort()[::-1][:3]
    assert (found.toarray()[7, first] > 0).all()
    assert nearest_images(images[:1], 3).nnz == 0


def test_fit__support_weight_is_chosen_on_validation() -> None:
    images, text, labels = clusters([40] * CLASSES)
    fitted = TransCLIP.fit(TransCLIP.Config(), evidence(images, text, labels, shots=4, val=4))
    assert fitted.chosen["support_weight"] in {0.002, 0.01, 0.02, 0.2}
    assert fitted.chosen["text_weight"] == 0.5
    assert "24 validation images" in fitted.notes[0]
    plain = TransCLIP.fit(TransCLIP.Config(), evidence(images, text, labels, shots=4))
    assert "not chosen on validation" in plain.notes[0]
    none = TransCLIP.fit(TransCLIP.Config(use_shots=False), evidence(images, text, labels, shots=4))
    assert none.chosen["text_weight"] == 1
    assert none.chosen["support_weight"] is None


def test_fit__order_of_images_and_classes() -> None:
    images, text, labels = clusters([20] * CLASSES)
    rows, columns = np.random.default_rng(1).permutation(120), np.array([3, 0, 5, 4, 1, 2])
    names = [f"c{row}" for row in range(CLASSES)]
    plain = TransCLIP.fit(TransCLIP.Config(), evidence(images, text, labels)).head.logits(images)
    mixed = evidence_of(names, text=text[columns], unlabelled=images[rows], logit_scale=30)
    other = TransCLIP.fit(TransCLIP.Config(), mixed).head.logits(images)
    np.testing.assert_allclose(
        other - other[:, :1], (plain - plain[:, 3:4])[:, columns], atol=1e-3 * np.abs(plain).max()
    )


def test_unit_or__zero_rows_take_the_other() -> None:
    found = unit_or(np.array([[3.0, 4.0], [0.0, 0.0]]), np.array([[1.0, 0.0], [0.0, 1.0]]))
    np.testing.assert_allclose(found, [[0.6, 0.8], [0, 1]])


def test_fit__refused() -> None:
    images, text, labels = clusters([4] * CLASSES)
    with pytest.raises(DataError, match="without labels"):
        TransCLIP.fit(TransCLIP.Config(), evidence_of([str(k) for k in range(CLASSES)], text=text))
    with pytest.raises(ValidationError, match="no effect without shots"):
        TransCLIP.Config(use_shots=False, support_weight=0.1)
    with pytest.raises(ValidationError, match="use_text"):
        TransCLIP.Config(use_text=False)
    assert len(images) == len(labels)
