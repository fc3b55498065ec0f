"""A head that asks several heads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, cast

import numpy as np

from edgeproof_deploy.runtime.head_form import Head, below, checked, numbered, refuse_others, stored

MOST_MEMBERS = 64


@dataclass(frozen=True)
class EnsembleHead(Head):
    """`logits = log(sum_m w_m p_m)` of the members' probabilities, or `sum_m w_m z_m` of standardised logits.

    `z` of an image is what is left of its logits when their mean over the labels is taken away and they are
    divided by their standard deviation; logits that are all equal give zeros. A bias is added to either.

    Attributes:
        labels: K names, all different, and those of every member.
        members: M heads on the same embeddings.
        weights: (M,) float64, none below 0 and not all 0; they need not add up to 1.
        of: what is added up.
        bias: (K,) float32 on the logits, or None for zeros.

    Raises:
        ValueError: there is no member, they do not fit each other, or the weights do not fit them.
    """

    form: ClassVar[str] = "ensemble"
    formula: ClassVar[str] = "log(sum of weights * softmax(logits of a member)) or sum of weights * z; + bias"

    labels: tuple[str, ...]
    members: tuple[Head, ...]
    weights: np.ndarray
    of: Literal["probabilities", "z_scores"]
    bias: np.ndarray | None = None

    def __post_init__(self) -> None:
        checked("weights", self.weights, len(self.members))
        object.__setattr__(self, "weights", np.array(self.weights, np.float64))
        if not self.members or self.weights.min() < 0 or not self.weights.any():
            raise ValueError("an ensemble needs members, and weights of which none is below 0 and one above")
        if any((head.labels, head.dim) != (self.labels, self.dim) for head in self.members):
            raise ValueError("a member is for other labels or embeddings than the ensemble")
        if self.of not in ("probabilities", "z_scores"):
            raise ValueError(f"an ensemble of {self.of!r}, expected of probabilities or z_scores")
        if self.bias is not None:
            object.__setattr__(self, "bias", checked("bias", self.bias, len(self.labels)))

    @property
    def dim(self) -> int:
        """Width of the embeddings."""
        return self.members[0].dim

    def logits(self, embeddings: np.ndarray) -> np.ndarray:
        """Return (N, K) logits of raw embeddings (N, D), float32."""
        logits = self._summed(embeddings)
        return logits if self.bias is None else logits + self.bias

    def _summed(self, embeddings: np.ndarray) -> np.ndarray:
        asked = [
            (head.logits(embeddings), weight) for head, weight in zip(self.members, self.weights) if weight
        ]
        if self.of == "z_scores":
            scored = np.stack([weight * z_scores(logits) for logits, weight in asked])
            return scored.sum(axis=0).astype(np.float32)
        logs = np.stack([log_shares(logits) + np.float32(np.log(weight)) for logits, weight in asked])
        highest = logs.max(axis=0)
        return highest + np.log(np.exp(logs - highest).sum(axis=0))

    def take(self, rows: list[int]) -> EnsembleHead:
        """Return the head that chooses between the labels at some positions.

        Every member chooses between them alone, and its probabilities or z-scores are taken over them.
        """
        labels = tuple(self.labels[row] for row in rows)
        members = tuple(head.take(rows) for head in self.members)
        bias = None if self.bias is None else self.bias[rows]
        return EnsembleHead(labels, members, self.weights, self.of, bias)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return `weights` (M,), arrays of each member after `0.`, `1.` and so on, and `bias` (K,) if any."""
        own = {} if self.bias is None else {"bias": self.bias}
        return {"weights": self.weights, **own, **numbered(head.arrays() for head in self.members)}

    def described(self) -> dict[str, str]:
        """Return the metadata beside the arrays, and those of each member after its number."""
        own = {**super().described(), "of": self.of}
        return own | numbered(head.described() for head in self.members)

    @classmethod
    def from_arrays(
        cls,
        labels: tuple[str, ...],
        arrays: Mapping[str, np.ndarray],
        said: Mapping[str, str],
        read: Callable[[dict[str, np.ndarray], dict[str, str]], Head],
    ) -> EnsembleHead:
        """Return the head that a file holds.

        Args:
            labels: of the file.
            arrays: of the file.
            said: the metadata of the file.
            read: makes a member of its arrays and metadata.

        Raises:
            ValueError: the file holds no ensemble.
        """
        weights = stored(arrays, "weights")
        if weights.ndim != 1 or len(weights) > MOST_MEMBERS:
            raise ValueError(f"weights of shape {weights.shape}, expected of {MOST_MEMBERS} members at most")
        starts = [f"{number}." for number in range(len(weights))]
        refuse_others(
            {name: array for name, array in arrays.items() if not name.startswith(tuple(starts))},
            *("weights", "bias"),
        )
        members = tuple(read(below(arrays, start), below(said, start)) for start in starts)
        of = cast("Literal['probabilities', 'z_scores']", said.get("of"))
        return cls(labels, members, weights, of, arrays.get("bias"))


def log_shares(logits: np.ndarray) -> np.ndarray:
    """Return the logarithm of the softmax over the last axis."""
    lower = logits - logits.max(axis=1, keepdims=True)
    return lower - np.log(np.exp(lower).sum(axis=1, keepdims=True))


def z_scores(logits: np.ndarray) -> np.ndarray:
    """Return logits (N, K) standardised over the labels, float64; zeros where all are equal."""
    away = logits - logits.mean(axis=1, keepdims=True, dtype=np.float64)
    spread = away.std(axis=1, keepdims=True)
    return np.divide(away, spread, out=np.zeros_like(away), where=spread > 0)
