"""A head that keeps the embeddings of objects with their names: what an object is near to, it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, NamedTuple

import numpy as np

from edgeproof_deploy.runtime.errors import LabelError
from edgeproof_deploy.runtime.head_form import (
    Head,
    checked,
    checked_number,
    refuse_others,
    stored,
    stored_number,
    unit_rows,
)

LARGEST_BLOCK = 1 << 22
UNIT_TOLERANCE = 0.01
"""How far from 1 the length of a stored row may be: half precision rounds each of its numbers."""
ABSENT = -1.0
"""The cosine to a class of which there is no object: the smallest that there is."""
NEVER = -2.0
"""Stands in place of the cosine of an object to itself where it must not be found."""


class Near(NamedTuple):
    """An object of the gallery that is near to what was asked about."""

    name: str
    label: str
    cosine: float


@dataclass(frozen=True)
class GalleryHead(Head):
    """`logits_k = scale * max over the objects n of class k of (e / |e|) . keys_n`.

    The best label is that of the nearest object. Probabilities are the softmax of these logits.

    Attributes:
        labels: K names, all different; one may have no object, and is then never nearer than any other.
        keys: (N, D) float32, unit rows, one an object.
        classes: (N,) int32, the label of each object.
        objects: N names, all different.
        scale: factor on the cosines; it changes probabilities, and no answer.

    Raises:
        ValueError: shapes or names do not fit each other, a row is not of unit length, a number is NaN, or a
            class lies outside of the labels.
    """

    form: ClassVar[str] = "gallery"
    formula: ClassVar[str] = "scale * (embedding @ keys.T).max over the objects of a label"

    labels: tuple[str, ...]
    keys: np.ndarray
    classes: np.ndarray
    objects: tuple[str, ...]
    scale: float = 1.0
    _order: np.ndarray | None = field(init=False, repr=False, compare=False)
    _starts: np.ndarray = field(init=False, repr=False, compare=False)
    _present: np.ndarray = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        count = len(self.objects)
        keys = checked("keys", self.keys, count, None)
        lengths = np.linalg.norm(keys, axis=1) if keys.size else np.zeros(count)
        if not count or not (np.abs(lengths - 1) <= UNIT_TOLERANCE).all():
            raise ValueError("keys are not one unit row for each object, at least one")
        classes = np.asarray(self.classes)
        if classes.dtype.kind not in "iu" or classes.shape != (count,):
            raise ValueError(f"classes are {classes.dtype} {classes.shape}, expected integers ({count},)")
        if not 0 <= classes.min() <= classes.max() < len(self.labels):
            raise ValueError(f"an object is of a class outside of the {len(self.labels)} labels")
        if len(set(self.objects)) != count or not all(name and "\n" not in name for name in self.objects):
            raise ValueError("a name of an object is empty, there twice, or holds a line break")
        object.__setattr__(self, "keys", keys)
        object.__setattr__(self, "classes", classes.astype(np.int32))
        object.__setattr__(self, "scale", checked_number("scale", self.scale))
        if not self.scale > 0:
            raise ValueError(f"scale is {self.scale:g}, expected a number above 0")
        ascending = bool((classes[1:] >= classes[:-1]).all())
        order = None if ascending else np.argsort(classes, kind="stable")
        present, starts = np.unique(classes if order is None else classes[order], return_index=True)
        object.__setattr__(self, "_order", order)
        object.__setattr__(self, "_present", present)
        object.__setattr__(self, "_starts", starts)

    @property
    def dim(self) -> int:
        """Width of the embeddings."""
        return self.keys.shape[1]

    @property
    def closed(self) -> str:
        """Why it takes no words that it was not made with."""
        return "This head finds the nearest of its objects: it knows no other words than their labels."

    def logits(self, embeddings: np.ndarray) -> np.ndarray:
        """Return (N, K) logits of raw embeddings (N, D), float32."""
        found = np.full((len(embeddings), len(self.labels)), ABSENT, np.float32)
        for some, near in self._cosines(embeddings):
            in_order = near if self._order is None else near[:, self._order]
            best = np.maximum.reduceat(in_order, self._starts, axis=1)
            found[some, self._present] = np.maximum(best, ABSENT)
        return found * np.float32(self.scale)

    def nearest(self, embeddings: np.ndarray, k: int = 5) -> list[list[Near]]:
        """Return for each raw embedding the k nearest objects, nearest first, with their cosines.

        Objects that are equally near stand in their order; there are fewer where the gallery has fewer.
        """
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}")
        told = []
        for _, near in self._cosines(embeddings):
            for row in near:
                best = np.argsort(-row, kind="stable")[:k]
                told.append([self._near(n, row[n]) for n in best.tolist() if row[n] > NEVER])
        return told

    def _near(self, number: int, cosine: float) -> Near:
        return Near(self.objects[number], self.labels[self.classes[number]], float(np.clip(cosine, -1, 1)))

    def _cosines(self, embeddings: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
        """Yield the cosines of some rows to all objects, a block of at most `LARGEST_BLOCK` at a time."""
        step = max(1, LARGEST_BLOCK // len(self.keys))
        for start in range(0, len(embeddings), step):
            some = slice(start, start + step)
            yield some, unit_rows(embeddings[some]) @ self.keys.T

    def take(self, rows: list[int]) -> GalleryHead:
        """Return the head that chooses between the labels at some positions, with their objects alone.

        Raises:
            LabelError: there is no object of any of them.
        """
        places = np.full(len(self.labels), -1)
        places[rows] = np.arange(len(rows))
        found = places[self.classes]
        labels = tuple(self.labels[row] for row in rows)
        if not (found >= 0).any():
            raise LabelError(f"no object of the gallery is of {', '.join(labels)[:80]}")
        return replace(self.of(np.flatnonzero(found >= 0)), labels=labels, classes=found[found >= 0])

    def of(self, kept: np.ndarray) -> GalleryHead:
        """Return the head with some of its objects, by their positions."""
        names = tuple(self.objects[n] for n in kept.tolist())
        return GalleryHead(self.labels, self.keys[kept], self.classes[kept], names, self.scale)

    def without_own(self, names: Sequence[str]) -> LeaveOneOut:
        """Return the head for objects of these names, in their order, none of which finds itself."""
        places = {name: number for number, name in enumerate(self.objects)}
        own = np.array([places.get(name, -1) for name in names], np.int64)
        return LeaveOneOut(self.labels, self.keys, self.classes, self.objects, self.scale, own)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return `keys` (N, D), `classes` (N,), `scale` () and `objects`: their names, UTF-8, one a line."""
        names = np.frombuffer("\n".join(self.objects).encode(), np.uint8)
        scale = np.array(self.scale, np.float64)
        return {"keys": self.keys, "classes": self.classes, "scale": scale, "objects": names}

    @classmethod
    def from_arrays(cls, labels: tuple[str, ...], arrays: Mapping[str, np.ndarray]) -> GalleryHead:
        """Return the head that a file holds; raises ValueError where it holds none."""
        refuse_others(arrays, "keys", "classes", "scale", "objects")
        names = stored(arrays, "objects")
        if names.dtype != np.uint8 or names.ndim != 1:
            raise ValueError(f"objects are {names.dtype} {names.shape}, expected bytes (N,)")
        # Of bytes that are no UTF-8 this raises an error that is a ValueError.
        objects = tuple(names.tobytes().decode().split("\n"))
        keys = checked("keys", stored(arrays, "keys"), len(objects), None)
        if stored(arrays, "keys").dtype == np.float16:
            keys = unit_rows(keys)
        return cls(labels, keys, stored(arrays, "classes"), objects, stored_number(arrays, "scale"))


@dataclass(frozen=True)
class LeaveOneOut(GalleryHead):
    """A gallery that was bound to objects, of which some lie in it: none of those finds itself.

    Attributes:
        own: (M,) positions in the gallery of what row m of the embeddings is of; -1 where it is not there.
    """

    own: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))

    def at(self, rows: np.ndarray) -> LeaveOneOut:
        """Return the head for the objects at some positions."""
        return replace(self, own=self.own[rows])

    def _cosines(self, embeddings: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
        if len(embeddings) != len(self.own):
            raise ValueError(f"bound to {len(self.own)} objects, got embeddings of {len(embeddings)}")
        for some, near in super()._cosines(embeddings):
            own = self.own[some]
            inside = np.flatnonzero(own >= 0)
            near[inside, own[inside]] = NEVER
            yield some, near
