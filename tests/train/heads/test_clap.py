from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from scipy.optimize import approx_fprime

from edgeproof_configs.errors import DataError
from edgeproof_train.heads.clap import CLAP, grown, slope, text_trust
from edgeproof_train.heads.evidence import Evidence, Rows, evidence_of
from edgeproof_train.heads.proxies import unit

NAMES = list("abcd")


def made(noise: float = 0.3, seed: int = 0, each: int = 4) -> Evidence:
    rng = np.random.default_rng(seed)
    means = unit(rng.normal(size=(4, 16)))
    labels = np.repeat(np.arange(4), each)
    features = unit(means[labels] + noise * rng.normal(size=(4 * each, 16)))
    text = unit(means + 0.4 * rng.normal(size=means.shape))
    return evidence_of(NAMES, features=features, labels=labels, text=text, logit_scale=10)


def parts(found: Evidence) -> tuple[Rows, np.ndarray]:
    assert found.shots is not None
    assert found.text is not None
    return found.shots, found.text


def test_slope__of_the_loss_by_finite_differences() -> None:
    shots, text = parts(made())
    rng = np.random.default_rng(1)
    weight = text.astype(np.float64) + 0.2 * rng.normal(size=text.shape)
    held = np.array([0.1, 0.5, 0.9, 0.3])

    def loss(flat: np.ndarray) -> float:
        rows = flat.reshape(4, 16)
        logits = 10 * shots.features @ (rows / np.linalg.norm(rows, axis=1, keepdims=True)).T
        likely = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(16), shots.labels]
        return float(likely.mean() + (held * ((rows - text) ** 2).sum(axis=1)).mean())

    expected = np.asarray(approx_fprime(weight.ravel(), loss, 1e-6)).reshape(4, 16)
    np.testing.assert_allclose(slope(weight, shots, text, held, np.float32(10)), expected, atol=1e-5)


def test_text_trust__mean_probability_of_the_own_class() -> None:
    shots, text = parts(made())
    p = np.exp(10 * shots.features.astype(np.float64) @ text.T)
    p /= p.sum(axis=1, keepdims=True)
    expected = [p[shots.labels == k, k].mean() for k in range(4)]
    np.testing.assert_allclose(text_trust(shots, text, np.float32(10)), expected, rtol=1e-5)


def test_grown__multiplier_of_the_outer_step() -> None:
    text = np.eye(2, 3, dtype=np.float32)
    moved = text + np.array([[0, 0, 0.5], [0, 0, 0]], np.float32)
    np.testing.assert_allclose(grown(np.array([0.4, 0.8]), moved, text), [0.4 * 1.25, 0.8])


def test_fit__learns_what_text_gets_wrong() -> None:
    found = made()
    shots, text = parts(found)
    other, _ = parts(made())
    before = (shots.features @ text.T).argmax(axis=1) == shots.labels
    head = CLAP.fit(CLAP.Config(), found).head
    assert (head.logits(other.features).argmax(axis=1) == other.labels).mean() > max(0.95, before.mean())


def test_fit__validation_changes_nothing() -> None:
    found = made()
    shots, text = parts(found)
    more = evidence_of(
        NAMES,
        features=shots.features,
        labels=shots.labels,
        text=text,
        logit_scale=10,
        val_features=shots.features[::-1],
        val_labels=shots.labels[::-1],
    )
    plain: Any = CLAP.fit(CLAP.Config(epochs=20), found).head
    other: Any = CLAP.fit(CLAP.Config(epochs=20), more).head
    assert np.array_equal(plain.weight, other.weight)


def test_fit__held_nearer_to_text_after_the_outer_step() -> None:
    found = made()
    _, text = parts(found)
    free: Any = CLAP.fit(CLAP.Config(), found).head
    bound: Any = CLAP.fit(CLAP.Config(constraint_steps=1), found).head
    assert ((bound.weight - text) ** 2).sum() < ((free.weight - text) ** 2).sum()


def test_fit__seed_decides_the_order_of_batches() -> None:
    found = made()
    heads: list[Any] = [
        CLAP.fit(CLAP.Config(epochs=3, batch_size=4, seed=seed), found).head for seed in (0, 0, 1)
    ]
    assert np.array_equal(heads[0].weight, heads[1].weight)
    assert not np.array_equal(heads[0].weight, heads[2].weight)


def test_fit__refused_without_text() -> None:
    shots, _ = parts(made())
    with pytest.raises(DataError, match="needs text"):
        CLAP.fit(CLAP.Config(), evidence_of(NAMES, features=shots.features, labels=shots.labels))
    with pytest.raises(ValidationError, match="use_text"):
        CLAP.Config(use_text=False)
