"""How sure the answers are against how often they are right, in bins of confidence."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgeproof_train.calibration import BINS, ece


def reliability(confidence: np.ndarray, right: np.ndarray) -> dict[str, Any]:
    """Return the expected calibration error and the bins that it is the sum of.

    Bin b holds the confidences in (b / 15, (b + 1) / 15], as in `edgeproof_train.calibration`.

    Args:
        confidence: (N,) probability of the first answer.
        right: bool (N,), whether it is the true label.

    Returns:
        `{"images", "ece", "confidence", "accuracy", "bins"}`; of each bin that has images
        `{"low", "high", "images", "confidence", "accuracy"}`.
    """
    place = (np.ceil(confidence * BINS).astype(np.int64) - 1).clip(0, BINS - 1)
    bins = [
        {
            "low": round(index / BINS, 4),
            "high": round((index + 1) / BINS, 4),
            "images": int(inside.sum()),
            "confidence": round(float(confidence[inside].mean()), 6),
            "accuracy": round(float(right[inside].mean()), 6),
        }
        for index in range(BINS)
        if (inside := place == index).any()
    ]
    return {
        "images": len(confidence),
        "ece": ece(confidence, right),
        "confidence": float(confidence.mean()),
        "accuracy": float(right.mean()),
        "bins": bins,
    }
