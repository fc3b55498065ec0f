"""A few images of each class, drawn by a hash, so that the choice depends on names and seed alone."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeproof_data.sets import NO_LABEL

Indices = NDArray[np.int64]
NEARLY_BALANCED = 0.9
"""Least share of effective classes at which classes count as equally frequent."""


def draw_shots(paths: Sequence[str], labels: Indices, count: int | None, seed: int) -> Indices:
    """Return the positions of at most `count` images of each class, ascending.

    Which they are is decided by a hash of seed and path: adding images of one class, or listing the files in
    another order, leaves the shots of the other classes as they are. Fewer shots of the same seed are a part
    of more. A class with fewer images gives all that it has.

    Args:
        paths: of the images.
        labels: (N,) classes; images with -1 have none and are left out.
        count: images of each class; None takes all.
        seed: another seed draws others.
    """
    if count is None:
        return np.flatnonzero(labels != NO_LABEL)
    if count < 1:
        raise ValueError(f"expected one shot or more, got {count}")
    draw = np.array([_draw(path, seed) for path in paths], np.uint64)
    chosen = [np.zeros(0, np.int64)]
    for label in np.unique(labels[labels != NO_LABEL]):
        members = np.flatnonzero(labels == label)
        chosen.append(members[np.argsort(draw[members], kind="stable")[:count]])
    return np.sort(np.concatenate(chosen))


@dataclass(frozen=True)
class ClassMix:
    """How often each class occurs among some images.

    Attributes:
        counts: (K,) images of each class.
    """

    counts: Indices

    @classmethod
    def of(cls, labels: Indices, classes: int) -> ClassMix:
        """Count labels; those with -1 are left out."""
        return cls(np.bincount(labels[labels != NO_LABEL], minlength=classes))

    @property
    def effective_share(self) -> float:
        """`exp(H) / K` with H the entropy of the frequencies: 1 where all are equal, 0 without images."""
        total = self.counts.sum()
        if not total:
            return 0.0
        shares = self.counts[self.counts > 0] / total
        return float(np.exp(-(shares * np.log(shares)).sum()) / len(self.counts))

    @property
    def balanced(self) -> bool:
        """Whether the classes are about equally frequent."""
        return self.effective_share >= NEARLY_BALANCED

    def to_dict(self) -> dict[str, Any]:
        """Return plain data: effective share of the classes, fewest and most images of one."""
        return {
            "images": int(self.counts.sum()),
            "classes": len(self.counts),
            "effective_share": round(self.effective_share, 4),
            "fewest": int(self.counts.min()) if len(self.counts) else 0,
            "most": int(self.counts.max(initial=0)),
        }

    def words(self) -> str:
        """Return it in words: `9 to 240 images a class, effective classes 66 %`."""
        told = self.to_dict()
        span = (
            f"{told['fewest']}" if told["fewest"] == told["most"] else f"{told['fewest']} to {told['most']}"
        )
        return f"{span} images a class, effective classes {100 * self.effective_share:.0f} %"


def _draw(path: str, seed: int) -> int:
    return int.from_bytes(hashlib.sha256(f"shots {seed}:{path}".encode()).digest()[:8], "big")
