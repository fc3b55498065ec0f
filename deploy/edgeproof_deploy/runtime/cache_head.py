"""A head that keeps examples: what an embedding is near to votes beside a linear head."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, cast

import numpy as np

from edgeproof_deploy.runtime.class_values import ClassValues
from edgeproof_deploy.runtime.head_form import (
    Head,
    checked,
    checked_number,
    refuse_others,
    softmax,
    stored,
    stored_number,
    unit_rows,
)
from edgeproof_deploy.runtime.linear_head import LinearHead

LARGEST_BLOCK = 1 << 22
IMAGES_OF_A_BLOCK = 256
LARGEST_EXPONENT = 30.0
BASE = "base."


@dataclass(frozen=True)
class CacheHead(Head):
    """`logits = scale * (base(e) + exp(-beta (1 - e / |e| @ keys.T)) @ values)`.

    Tip-Adapter (arXiv 2111.03930): each key votes for its own class, alpha times. ProKeR (2501.11175): the
    base counts by its probabilities, and the values are the coefficients of a kernel regression.

    Attributes:
        labels: K names, all different.
        keys: (N, D) float32, used as they are; rows of any length.
        values: (N, K) float32. Where no key votes for two labels they are kept as `ClassValues`.
        beta: how narrow the neighbourhood of a key is, at least 0.
        base: what the votes are added to, on the same labels; None for nothing.
        base_form: whether the logits or the probabilities of the base count.
        scale: factor on the sum.

    Raises:
        ValueError: shapes or labels do not fit each other, a number is NaN or too large, or a key is so long
            that its vote may overflow.
    """

    form: ClassVar[str] = "cache"
    formula: ClassVar[str] = "scale * (base + exp(-beta * (1 - embedding @ keys.T)) @ values)"

    labels: tuple[str, ...]
    keys: np.ndarray
    values: np.ndarray | ClassValues
    beta: float
    base: LinearHead | None
    base_form: Literal["logits", "probabilities"] = "logits"
    scale: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "keys", checked("keys", self.keys, None, None))
        if not isinstance(self.values, ClassValues):
            dense = checked("values", self.values, len(self.keys), len(self.labels))
            object.__setattr__(self, "values", ClassValues.of(dense) or dense)
        if self.values.shape != (len(self.keys), len(self.labels)):
            raise ValueError(
                f"values are of shape {self.values.shape}: {len(self.keys)} keys, {len(self.labels)} labels"
            )
        for name in ("beta", "scale"):
            object.__setattr__(self, name, checked_number(name, getattr(self, name)))
        longest = math.sqrt(np.einsum("nd,nd->n", self.keys, self.keys, dtype=np.float64).max(initial=0.0))
        if self.beta < 0 or self.beta * (longest - 1) > LARGEST_EXPONENT:
            raise ValueError(f"beta {self.beta:g} and keys of length {longest:g}: the votes may overflow")
        if self.base is not None and (self.base.labels, self.base.dim) != (self.labels, self.dim):
            raise ValueError("the base is for other labels or embeddings than the cache")
        if self.base_form not in ("logits", "probabilities"):
            raise ValueError(f"base_form is {self.base_form!r}, expected logits or probabilities")

    @property
    def dim(self) -> int:
        """Width of the embeddings."""
        return self.keys.shape[1]

    def logits(self, embeddings: np.ndarray) -> np.ndarray:
        """Return (N, K) logits of raw embeddings (N, D), float32."""
        votes = self._votes(unit_rows(embeddings, self.beta))
        if self.base is not None:
            added = self.base.logits(embeddings)
            votes += added if self.base_form == "logits" else softmax(added)
        votes *= np.float32(self.scale)
        return votes

    def _votes(self, scaled_BD: np.ndarray) -> np.ndarray:
        """Return what the keys say (B, K) of unit rows times beta, a block of images at a time."""
        step = max(1, min(IMAGES_OF_A_BLOCK, LARGEST_BLOCK // max(1, len(self.keys))))
        if len(scaled_BD) <= step:
            return self._votes_of_block(scaled_BD)
        starts = range(0, len(scaled_BD), step)
        return np.concatenate([self._votes_of_block(scaled_BD[start : start + step]) for start in starts])

    def _votes_of_block(self, scaled_BD: np.ndarray) -> np.ndarray:
        near = scaled_BD @ self.keys.T
        near -= np.float32(self.beta)
        np.exp(near, out=near)
        return self.values.summed(near) if isinstance(self.values, ClassValues) else near @ self.values

    def take(self, rows: list[int]) -> CacheHead:
        """Return the head that chooses between the labels at some positions.

        Logits of the labels that stay do not change, but for a base that counts by its probabilities: those
        are shared out among the labels that stay, as if the base had never known others, and the votes are
        added to them as they were fitted. Keys that vote for none of these labels are left out.
        """
        labels = tuple(self.labels[row] for row in rows)
        base = None if self.base is None else self.base.take(rows)
        keys, values = self.keys, self.values
        if isinstance(values, ClassValues):
            kept, values = values.take(rows)
            keys = keys[kept]
        else:
            values = values[:, rows]
        return CacheHead(labels, keys, values, self.beta, base, self.base_form, self.scale)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return `keys` (N, D), `beta` (), `scale` (), the arrays of the base after `base.`, and the values.

        They are `values` (N, K); or `classes` (N,) int32 and `heights` (N,), where no key votes for two.
        """
        scalars = {name: np.array(getattr(self, name), np.float64) for name in ("beta", "scale")}
        values = self.values.arrays() if isinstance(self.values, ClassValues) else {"values": self.values}
        below = {} if self.base is None else self.base.arrays()
        return {"keys": self.keys, **values, **scalars, **{BASE + name: part for name, part in below.items()}}

    def described(self) -> dict[str, str]:
        """Return the metadata beside the arrays."""
        return {**super().described(), "base_form": self.base_form}

    @classmethod
    def from_arrays(
        cls, labels: tuple[str, ...], arrays: Mapping[str, np.ndarray], base_form: str
    ) -> CacheHead:
        """Return the head that a file holds; raises ValueError where it holds none."""
        below = {name.removeprefix(BASE): part for name, part in arrays.items() if name.startswith(BASE)}
        own = {name: part for name, part in arrays.items() if not name.startswith(BASE)}
        how = ("classes", "heights") if "classes" in own else ("values",)
        refuse_others(own, "keys", "beta", "scale", *how)
        parts = [stored(own, name) for name in how]
        return cls(
            labels,
            stored(own, "keys"),
            parts[0] if len(parts) == 1 else ClassValues(parts[0], parts[1], len(labels)),
            stored_number(own, "beta"),
            LinearHead.from_arrays(labels, below) if below else None,
            cast("Literal['logits', 'probabilities']", base_form),
            stored_number(own, "scale"),
        )
