"""A few classes in a space of images and words, for tests of heads that are made of others."""

from __future__ import annotations

import numpy as np

from edgeproof_train.heads.evidence import Evidence, evidence_of


def images_of(labels: np.ndarray, noise: float, seed: int, dim: int = 16) -> np.ndarray:
    """Return features near the centres of their classes."""
    centres = np.random.default_rng(99).normal(size=(5, dim))
    return centres[labels] + noise * np.random.default_rng(seed).normal(size=(len(labels), dim))


def few_shot_case(shots: int = 4, val: int | None = 6, text: bool = True, noise: float = 1.0) -> Evidence:
    """Return five classes: shots, validation if any, words that are near the centres."""
    labels = np.repeat(np.arange(5), shots)
    val_labels = None if val is None else np.repeat(np.arange(5), val)
    return evidence_of(
        [f"class {number}" for number in range(5)],
        features=images_of(labels, noise, 0),
        labels=labels,
        text=images_of(np.arange(5), 0.8, 1) if text else None,
        val_features=None if val_labels is None else images_of(val_labels, noise, 2),
        val_labels=val_labels,
        logit_scale=20.0,
    )
