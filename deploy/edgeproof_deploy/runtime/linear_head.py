"""A head that is one matrix: zero-shot with a prior, and all that is fitted on features and stays linear."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from edgeproof_deploy.runtime.head_form import (
    Head,
    checked,
    checked_number,
    refuse_others,
    stored,
    stored_number,
    unit_rows,
)


@dataclass(frozen=True)
class LinearHead(Head):
    """`logits = logit_scale * e / |e| @ weight.T + bias`.

    Attributes:
        labels: K names, all different.
        weight: (K, D) float32, rows of any length.
        bias: (K,) float32, or None for zeros.
        logit_scale: factor on the products; not on the bias.

    Raises:
        ValueError: shapes do not fit each other, or a number is NaN or too large.
    """

    form: ClassVar[str] = "linear"
    formula: ClassVar[str] = "scale * embedding @ weight.T + bias"

    labels: tuple[str, ...]
    weight: np.ndarray
    bias: np.ndarray | None = None
    logit_scale: float = 1.0

    def __post_init__(self) -> None:
        count = len(self.labels)
        object.__setattr__(self, "weight", checked("weight", self.weight, count, None))
        object.__setattr__(self, "logit_scale", checked_number("scale", self.logit_scale))
        if self.bias is not None:
            object.__setattr__(self, "bias", checked("bias", self.bias, count))

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

    def arrays(self) -> dict[str, np.ndarray]:
        """Return `weight` (K, D), `scale` () and, if there is one, `bias` (K,).

        The scale is not called `logit_scale`: a reader that knows zero-shot heads only would take the file
        for one and leave the bias out.
        """
        found = {"weight": self.weight, "scale": np.array(self.logit_scale, np.float64)}
        return found if self.bias is None else {**found, "bias": self.bias}

    @classmethod
    def from_arrays(cls, labels: tuple[str, ...], arrays: Mapping[str, np.ndarray]) -> LinearHead:
        """Return the head that a file holds; raises ValueError where it holds none."""
        refuse_others(arrays, "weight", "scale", "bias")
        weight, scale = stored(arrays, "weight"), stored_number(arrays, "scale")
        return cls(labels, weight, arrays.get("bias"), scale)
