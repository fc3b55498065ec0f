"""Probabilities that mean what they say, for heads whose logits have no scale of their own."""

from __future__ import annotations

from typing import TypeVar, cast

from edgeproof_deploy.runtime.head import Head
from edgeproof_train.heads.evidence import Evidence
from edgeproof_train.heads.joined import sharpened
from edgeproof_train.heads.weights import choose_sharpness

AnyHead = TypeVar("AnyHead", bound=Head)
MOST_SCORES = 1 << 20
"""Scores that the factor is chosen on; beyond them every second, third ... image counts."""


def sharpened_on_val(head: AnyHead, evidence: Evidence) -> tuple[AnyHead, float]:
    """Return the head with its logits multiplied so that validation labels are likeliest, and the factor.

    Answers do not change. Without validation the head stays as it is, and the factor is 1.
    """
    if evidence.val is None:
        return head, 1.0
    step = -(-evidence.val.labels.size * len(evidence.names) // MOST_SCORES)
    factor = choose_sharpness(head(evidence.val.features[::step]), evidence.val.labels[::step])
    return cast("AnyHead", sharpened(head, factor)), factor
