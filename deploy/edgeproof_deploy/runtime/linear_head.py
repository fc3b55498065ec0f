"""A head that is one matrix: zero-shot with a prior, and all that is fitted on features and stays linear."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeproof_deploy.runtime.head import Head, unit_rows


@dataclass(frozen=True)
class LinearHead(Head):
    """`logits = logit_scale * e / |e| @ weight.T + bias`.

    Attributes:
        labels: K names, all different.
        weight: (K, D) float32, rows of any length.
        bias: (K,) float32, or None for zeros.
        logit_scale: factor on the products; not on the bias.

    Raises:
        ValueError: shapes do not fit each other, or a number is not finite.
    """

    labels: tuple[str, ...]
    weight: np.ndarray
    bias: np.ndarray | None = None
    logit_scale: float = 1.0

    @property
    def dim(self) -> int:
        """Width of the embeddings."""
        return self.weight.shape[1]

    def logits(self, embeddings: np.ndarray) -> np.ndarray:
        """Return (N, K) logits of raw embeddings (N, D), float32."""
        logits = unit_rows(embeddings, self.logit_scale) @ self.weight.T
        if self.bias is not None:
            logits += self.bias
        return logits

    def take(self, rows: list[int]) -> LinearHead:
        """Return the head that chooses between the labels at some positions."""
        bias = None if self.bias is None else self.bias[rows]
        return LinearHead(tuple(self.labels[row] for row in rows), self.weight[rows], bias, self.logit_scale)
