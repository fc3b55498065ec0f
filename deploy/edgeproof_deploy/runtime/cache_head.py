"""A head that keeps examples: what an embedding is near to votes beside a linear head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from edgeproof_deploy.runtime.head import Head, unit_rows
from edgeproof_deploy.runtime.linear_head import LinearHead

LARGEST_BLOCK = 1 << 22
IMAGES_OF_A_BLOCK = 256


@dataclass(frozen=True)
class CacheHead(Head):
    """`logits = scale * (base(e) + exp(-beta (1 - e / |e| @ keys.T)) @ values)`.

    Tip-Adapter (arXiv 2111.03930): the values are alpha at the class of each key. ProKeR (2501.11175): the
    base counts by its probabilities, and the values are the coefficients of a kernel regression.

    Attributes:
        labels: K names, all different.
        keys: (N, D) float32, used as they are; rows of any length.
        values: (N, K) float32.
        beta: how narrow the neighbourhood of a key is.
        base: what the votes are added to; None for nothing.
        base_form: whether the logits or the probabilities of the base count.
        scale: factor on the sum.
    """

    labels: tuple[str, ...]
    keys: np.ndarray
    values: np.ndarray
    beta: float
    base: LinearHead | None
    base_form: Literal["logits", "probabilities"] = "logits"
    scale: float = 1.0

    @property
    def dim(self) -> int:
        """Width of the embeddings."""
        return self.keys.shape[1]

    def logits(self, embeddings: np.ndarray) -> np.ndarray:
        """Return (N, K) logits of raw embeddings (N, D), float32."""
        votes = self._votes(unit_rows(embeddings, self.beta))
        if self.base is not None:
            by_logits = self.base_form == "logits"
            votes += self.base.logits(embeddings) if by_logits else self.base.probabilities(embeddings)
        votes *= np.float32(self.scale)
        return votes

    def _votes(self, scaled_BD: np.ndarray) -> np.ndarray:
        """Return what the keys say (B, K) of unit rows times beta, in blocks of bounded memory."""
        votes = np.zeros((len(scaled_BD), len(self.labels)), np.float32)
        for start in range(0, len(scaled_BD), IMAGES_OF_A_BLOCK):
            images = scaled_BD[start : start + IMAGES_OF_A_BLOCK]
            step = max(1, LARGEST_BLOCK // len(images))
            for first in range(0, len(self.keys), step):
                near = self.keys[first : first + step] @ images.T
                near -= np.float32(self.beta)
                np.exp(near, out=near)
                votes[start : start + len(images)] += near.T @ self.values[first : first + step]
        return votes

    def take(self, rows: list[int]) -> CacheHead:
        """Return the head that chooses between the labels at some positions."""
        return CacheHead(
            tuple(self.labels[row] for row in rows),
            self.keys,
            self.values[:, rows],
            self.beta,
            None if self.base is None else self.base.take(rows),
            self.base_form,
            self.scale,
        )
