"""Values of a cache whose keys vote for one label each: a class and a height instead of a row."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from edgeproof_deploy.runtime.head_form import checked


@dataclass(frozen=True)
class ClassValues:
    """A matrix (N, K) with at most one number other than 0 in a row.

    Attributes:
        classes: (N,) int32, where in its row the number stands.
        heights: (N,) float32, the number.
        count: K.

    Raises:
        ValueError: they are not as many, or a class lies outside.
    """

    classes: np.ndarray
    heights: np.ndarray
    count: int
    _order: np.ndarray | None = field(init=False, repr=False, compare=False)
    _starts: np.ndarray = field(init=False, repr=False, compare=False)
    _present: np.ndarray = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        classes = np.asarray(self.classes)
        if classes.dtype.kind not in "iu" or classes.ndim != 1:
            raise ValueError(f"classes are {classes.dtype} of shape {classes.shape}, expected integers (N,)")
        if classes.size and not (classes.min() >= 0 and classes.max() < self.count):
            raise ValueError(f"a key is for a class outside of the {self.count} labels")
        object.__setattr__(self, "classes", classes.astype(np.int32))
        object.__setattr__(self, "heights", checked("heights", self.heights, len(classes)))
        ascending = bool((classes[1:] >= classes[:-1]).all())
        order = None if ascending else np.argsort(classes, kind="stable")
        present, starts = np.unique(classes if order is None else classes[order], return_index=True)
        object.__setattr__(self, "_order", order)
        object.__setattr__(self, "_present", present)
        object.__setattr__(self, "_starts", starts)

    @classmethod
    def of(cls, dense: np.ndarray) -> ClassValues | None:
        """Return the same as a matrix (N, K), or None where a row holds two numbers."""
        if np.count_nonzero(dense, axis=1).max(initial=0) > 1:
            return None
        classes = np.argmax(dense != 0, axis=1)
        return cls(classes, dense[np.arange(len(dense)), classes], dense.shape[1])

    @property
    def shape(self) -> tuple[int, int]:
        """Of the matrix: (N, K)."""
        return len(self.classes), self.count

    def dense(self) -> np.ndarray:
        """Return the matrix, (N, K) float32."""
        rows = np.zeros(self.shape, np.float32)
        rows[np.arange(len(rows)), self.classes] = self.heights
        return rows

    def summed(self, near_BN: np.ndarray) -> np.ndarray:
        """Return `near @ dense()`, (B, K), as a sum over the keys of each class."""
        votes = np.zeros((len(near_BN), self.count), np.float32)
        if len(self.classes):
            weighed = near_BN * self.heights
            in_order = weighed if self._order is None else weighed[:, self._order]
            votes[:, self._present] = np.add.reduceat(in_order, self._starts, axis=1)
        return votes

    def take(self, columns: list[int]) -> tuple[np.ndarray, ClassValues]:
        """Return which rows vote for some of the columns, (N,) bool, and the values of those."""
        places = np.full(self.count, -1)
        places[columns] = np.arange(len(columns))
        found = places[self.classes]
        kept = found >= 0
        return kept, ClassValues(found[kept], self.heights[kept], len(columns))

    def arrays(self) -> dict[str, np.ndarray]:
        """Return what it is stored as."""
        return {"classes": self.classes, "heights": self.heights}
