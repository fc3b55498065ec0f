"""What one row of a cache holds: a unit vector, or the k largest of many class probabilities."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from edgeproof_configs.errors import DataError
from edgeproof_data.cache.half import widen
from edgeproof_data.cache.key import CacheKey
from edgeproof_data.paths import counted, some_of

UNIT_DTYPE = np.dtype("<f2")
FILE_FIELDS = [("size", "<i8"), ("mtime_ns", "<i8"), ("sha256", "u1", (32,))]
MOST_SHORT_IDS = 1 << 16
"""So many classes can be told apart by 16 bits."""


@dataclass(frozen=True)
class TopK:
    """The k largest of K class probabilities of n images.

    Attributes:
        probabilities: (n, k) float32, the largest first; what they lack to 1 belongs to the other classes.
        ids: (n, k) int64, which classes.
    """

    probabilities: NDArray[np.float32]
    ids: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, k)."""
        return self.ids.shape


class RowFormat(ABC):
    """How rows are packed. Beside `value` each row has a float32, its `norm`, by which it is scaled back.

    Attributes:
        column: name of the value in the records of a part.
        dtype: of one entry of the value.
        shape: of the value of one row.
        width: of what the teacher gives for an image.
    """

    column: ClassVar[str]
    dtype: np.dtype
    shape: tuple[int, ...]
    width: int

    @property
    def record(self) -> np.dtype:
        """The type of one row of a part."""
        return np.dtype([(self.column, self.dtype, self.shape), ("norm", "<f4"), *FILE_FIELDS])

    @abstractmethod
    def pack(self, rows: Any, files: Sequence[Path]) -> tuple[NDArray[Any], NDArray[np.float64]]:
        """Return values (n, *shape) and norms (n,) of what a teacher gave for these files.

        Raises:
            DataError: a row cannot be stored; names the files.
        """


class UnitRows(RowFormat):
    """Vectors (dim,) as float16 of unit length, and the length that they had."""

    column = "unit"

    def __init__(self, dim: int):
        self.dtype, self.shape, self.width = UNIT_DTYPE, (dim,), dim

    def pack(
        self, rows: NDArray[np.float32], files: Sequence[Path]
    ) -> tuple[NDArray[Any], NDArray[np.float64]]:
        """Return unit vectors and lengths."""
        if rows.shape != (len(files), *self.shape):
            raise ValueError(f"expected embeddings ({len(files)}, {self.shape[0]}), got {rows.shape}")
        wide = rows.astype(np.float64)
        norms = np.linalg.norm(wide, axis=1)
        refuse_unusable(norms, files, "embedding")
        return wide / norms[:, None], norms


class TopKRows(RowFormat):
    """The k largest probabilities (float16) with their classes (uint16, int32 beyond 65,536 classes).

    The norm is what the probabilities sum to, taken before they are rounded. A row takes `4 k + 4` bytes,
    `6 k + 4` with many classes (arXiv 2207.10666).
    """

    column = "top"

    def __init__(self, k: int, classes: int):
        if not 1 <= k <= classes:
            raise ValueError(f"expected k of 1 to {classes} classes, got {k}")
        self.k, self.classes = k, classes
        ids = "<u2" if classes <= MOST_SHORT_IDS else "<i4"
        self.dtype = np.dtype([("probability", UNIT_DTYPE, (k,)), ("id", ids, (k,))])
        self.shape, self.width = (), classes

    def output(self) -> dict[str, Any]:
        """Return what a cache's key says of its rows."""
        return {"name": "top-k probabilities", "k": self.k, "classes": self.classes, "temperature": 1.0}

    def pack(self, rows: TopK, files: Sequence[Path]) -> tuple[NDArray[Any], NDArray[np.float64]]:
        """Return probabilities with classes, and what they sum to."""
        if rows.shape != (len(files), self.k) or rows.probabilities.shape != rows.shape:
            raise ValueError(f"expected probabilities ({len(files)}, {self.k}), got {rows.shape}")
        if rows.ids.min() < 0 or rows.ids.max() >= self.classes:
            raise ValueError(f"expected classes from 0 to {self.classes - 1}")
        mass = rows.probabilities.astype(np.float64).sum(axis=1)
        refuse_unusable(mass, files, "class probabilities")
        values = np.zeros(len(files), self.dtype)
        values["probability"], values["id"] = rows.probabilities, rows.ids
        return values, np.minimum(mass, 1.0)

    def unpack(self, values: NDArray[np.void], mass: NDArray[np.float32]) -> TopK:
        """Return what was packed; rounding leaves the sum of each row as it was."""
        rounded = widen(np.ascontiguousarray(values["probability"]))
        rounded *= (mass / np.maximum(rounded.sum(axis=1), np.finfo(np.float32).tiny))[:, None]
        return TopK(rounded, values["id"].astype(np.int64))


def format_of(key: CacheKey, dim: int) -> RowFormat:
    """Return how the rows of a cache are packed.

    Args:
        key: what they depend on; its `output` tells what they are.
        dim: width of what the teacher gives.
    """
    if isinstance(key.output, dict):
        return TopKRows(key.output["k"], key.output["classes"])
    return UnitRows(dim)


def refuse_unusable(norms: NDArray[np.float64], files: Sequence[Path], what: str) -> None:
    """Refuse rows that are not finite or zero.

    Raises:
        DataError: naming the files.
    """
    for wrong, word in ((~np.isfinite(norms), "NaN or infinite"), (norms == 0, "zero")):
        if wrong.any():
            named = [files[index] for index in np.flatnonzero(wrong).tolist()]
            raise DataError(
                f"the teacher's {what} of {counted(len(named), 'image')} is {word}",
                where=some_of(named),
                fix="look at these images and at the teacher's precision (fp32 if it runs in half)",
            )
