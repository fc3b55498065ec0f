"""A head that asks several heads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from edgeproof_deploy.runtime.head import Head


@dataclass(frozen=True)
class EnsembleHead(Head):
    """`logits = log(sum_m w_m p_m)` of the members' probabilities, or `sum_m w_m z_m` of standardised logits.

    `z` of an image is what is left of its logits when their mean over the labels is taken away and they are
    divided by their standard deviation; logits that are all equal give zeros.

    Attributes:
        labels: K names, all different, and those of every member.
        members: M heads on the same embeddings.
        weights: (M,) float, none below 0 and not all 0.
        of: what is added up.
    """

    labels: tuple[str, ...]
    members: tuple[Head, ...]
    weights: np.ndarray
    of: Literal["probabilities", "z_scores"]

    @property
    def dim(self) -> int:
        """Width of the embeddings."""
        return self.members[0].dim

    def logits(self, embeddings: np.ndarray) -> np.ndarray:
        """Return (N, K) logits of raw embeddings (N, D), float32."""
        asked = [(head, weight) for head, weight in zip(self.members, self.weights) if weight]
        if self.of == "z_scores":
            scored = [np.float32(weight) * z_scores(head.logits(embeddings)) for head, weight in asked]
            return np.sum(scored, axis=0)
        logs = np.stack([log_shares(head.logits(embeddings)) + np.float32(np.log(w)) for head, w in asked])
        highest = logs.max(axis=0)
        logs -= highest
        return highest + np.log(np.exp(logs).sum(axis=0))

    def take(self, rows: list[int]) -> EnsembleHead:
        """Return the head that chooses between the labels at some positions; so does each member."""
        labels = tuple(self.labels[row] for row in rows)
        return EnsembleHead(labels, tuple(head.take(rows) for head in self.members), self.weights, self.of)


def log_shares(logits: np.ndarray) -> np.ndarray:
    """Return the logarithm of the softmax over the last axis."""
    lower = logits - logits.max(axis=1, keepdims=True)
    return lower - np.log(np.exp(lower).sum(axis=1, keepdims=True))


def z_scores(logits: np.ndarray) -> np.ndarray:
    """Return logits (N, K) standardised over the labels; zeros where all are equal."""
    away = logits - logits.mean(axis=1, keepdims=True)
    spread = away.std(axis=1, keepdims=True)
    return np.divide(away, spread, out=np.zeros_like(away), where=spread > 0)
