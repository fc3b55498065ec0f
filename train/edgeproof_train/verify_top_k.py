"""Whether a cache of the largest class probabilities still says what the teacher says."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from edgeproof_configs.errors import EdgeproofError
from edgeproof_data.cache import EmbeddingCache
from edgeproof_data.sets import ImageSet
from edgeproof_data.views import View
from edgeproof_train.embed import embed
from edgeproof_train.teacher import Teacher

MOST_VARIATION = 0.01
"""Half precision takes at most 0.0005 of a probability; the rest is for an accelerator's order of sums."""


def verify_top_k(
    cache: EmbeddingCache,
    teacher: Teacher,
    images: ImageSet,
    view: View | None = None,
    sample: int = 64,
    seed: int = 0,
) -> dict[str, Any]:
    """Compute a sample of rows again, with all their classes, and compare.

    Args:
        cache: of the k largest probabilities.
        teacher: that gives class scores.
        images: of the cache, in any order.
        view: that was stored; None for the fixed one.
        sample: how many rows.
        seed: of the choice.

    Returns:
        `sample`, `variation_max` (half the sum of differences of the stored probabilities), `missed_max`
        (how much more the k largest of now hold than the stored classes do) and `images_per_second`.

    Raises:
        EdgeproofError: one of the two is above 0.01: the cache is not of this teacher and these images.
    """
    generator = np.random.default_rng(seed)
    chosen = np.sort(generator.choice(len(images), min(sample, len(images)), replace=False))
    stored = cache.top(cache.find(images.subset(chosen)))
    started = time.perf_counter()
    precision = cache.key.teacher.get("precision", "fp32")
    found = embed(teacher, images, chosen, 32, 0, precision, view)
    blocks = [rows for _, rows, _ in found if isinstance(rows, np.ndarray)]
    seconds = time.perf_counter() - started
    shares = softmax(np.concatenate(blocks))
    now = np.take_along_axis(shares, stored.ids, axis=1)
    variation = 0.5 * np.abs(now - stored.probabilities).sum(axis=1)
    best = np.partition(shares, -stored.shape[1], axis=1)[:, -stored.shape[1] :]
    missed = best.sum(axis=1) - now.sum(axis=1)
    worst = np.maximum(variation, missed)
    if not worst.max() < MOST_VARIATION:
        path = images.paths[chosen[int(worst.argmax())]]
        raise EdgeproofError(
            f"the stored probabilities do not agree with the teacher's: {worst.max():.4f} apart for {path}",
            where=cache.folder,
            fix="delete this folder and run the stage `embed` again",
        )
    return {
        "sample": len(chosen),
        "variation_max": round(float(variation.max()), 7),
        "missed_max": round(float(missed.max()), 7),
        "images_per_second": round(len(chosen) / seconds, 1),
    }


def softmax(scores: np.ndarray) -> np.ndarray:
    """Return probabilities (N, K), float64."""
    wide = np.exp(scores.astype(np.float64) - scores.max(axis=1, keepdims=True))
    return wide / wide.sum(axis=1, keepdims=True)
