"""Heads of every form with random numbers, and embeddings of all lengths to ask them about."""

from __future__ import annotations

import numpy as np

from edgeproof_deploy.runtime.cache_head import CacheHead
from edgeproof_deploy.runtime.ensemble_head import EnsembleHead
from edgeproof_deploy.runtime.gallery_head import GalleryHead
from edgeproof_deploy.runtime.head import ClassifierHead, Head, ZeroShotHead
from edgeproof_deploy.runtime.linear_head import LinearHead

LENGTHS = (0.0, 1e-40, 1e-30, 1e-13, 1e-3, 1.0, 25.0, 1e10, 1e20, 1e36)
FORMS = (
    *("linear", "linear_plain", "tip", "votes_alone", "proker", "logit_ensemble", "ensemble", "nested"),
    *("zero_shot", "classifier", "some_classes", "gallery"),
)


def unit(rows: np.ndarray) -> np.ndarray:
    """Return rows of unit length, float32."""
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def names(count: int) -> tuple[str, ...]:
    return tuple(f"label {number}" for number in range(count))


def embeddings(dim: int, seed: int = 1) -> np.ndarray:
    """Return an embedding of each of `LENGTHS`, (10, D) float32."""
    directions = unit(np.random.default_rng(seed).standard_normal((len(LENGTHS), dim))).astype(np.float64)
    return (directions * np.array(LENGTHS)[:, None]).astype(np.float32)


def make_head(form: str, count: int = 5, dim: int = 8, shots: int = 3, seed: int = 0) -> Head:
    """Return a head of a form for `count` labels."""
    rng, labels = np.random.default_rng(seed), names(count)
    rows = unit(rng.standard_normal((count, dim)))
    linear = LinearHead(labels, rows, rng.standard_normal(count).astype(np.float32), 20.0)
    keys = unit(rng.standard_normal((shots * count, dim)))
    owners = rng.permutation(np.repeat(np.arange(count), shots))
    coefficients = rng.standard_normal((len(keys), count)).astype(np.float32) / shots
    if form == "linear":
        return linear
    if form == "linear_plain":
        return LinearHead(labels, 7 * rows)
    if form == "tip":
        return CacheHead(labels, keys, 1.17 * np.eye(count)[owners], 5.5, linear)
    if form == "votes_alone":
        return CacheHead(labels, keys, np.eye(count)[owners], 1.0, None, scale=3.0)
    if form == "proker":
        return CacheHead(labels, keys, coefficients, 2.0, linear, "probabilities", 30.0)
    if form == "gallery":
        return GalleryHead(labels, keys, owners, tuple(f"object {n}" for n in range(len(keys))), 20.0)
    if form == "zero_shot":
        return ZeroShotHead(labels, rows, 100.0)
    if form == "classifier":
        return ClassifierHead(labels, tuple(range(count)), count)
    if form == "some_classes":
        return ClassifierHead(labels, tuple(range(1, count + 1)), count + 2)
    members = tuple(make_head(one, count, dim, shots, seed + 1) for one in ("linear", "tip", "proker"))
    z_scores = EnsembleHead(labels, members, np.array([0.5, 0.0, 2.0]), "z_scores")
    if form == "logit_ensemble":
        return z_scores
    if form == "ensemble":
        return EnsembleHead(labels, members, np.array([0.2, 0.5, 0.3]), "probabilities")
    assert form == "nested"
    return EnsembleHead(labels, (z_scores, linear), np.array([3, 1]), "probabilities")
