"""The heads of a bundle: cosines with the text embedding of each label, class scores, or what was fitted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from edgeproof_deploy.runtime.bundle import Bundle
from edgeproof_deploy.runtime.errors import BundleError, LabelError
from edgeproof_deploy.runtime.head_form import (
    Head,
    check_words,
    checked,
    checked_number,
    stored,
    stored_number,
    unit_rows,
)
from edgeproof_deploy.runtime.labels import LABELS_FILE, labels_of
from edgeproof_deploy.runtime.safetensors import read_safetensors

__all__ = [
    "HEAD_FILE",
    "LABELS_FILE",
    "ClassifierHead",
    "Head",
    "ZeroShotHead",
    "check_words",
    "head_of_rows",
    "parse_head",
    "read_head",
]

HEAD_FILE = "head.safetensors"
DEEPEST = 3
"""Ensembles and cascades of heads of heads that are read; a file that says more was not written by us."""


@dataclass(frozen=True)
class ClassifierHead(Head):
    """`logits = e`: the model scores the classes itself.

    Attributes:
        labels: names of the classes to choose between.
        columns: where their scores stand.
        classes: how many scores the model gives.
    """

    formula: ClassVar[str] = "embedding"

    labels: tuple[str, ...]
    columns: tuple[int, ...]
    classes: int

    @property
    def dim(self) -> int:
        """How many scores the model gives."""
        return self.classes

    @property
    def closed(self) -> str:
        """Why it takes no words that it was not made with."""
        return "This student scores the classes it was trained on, not words: it takes no others."

    def logits(self, embeddings: np.ndarray) -> np.ndarray:
        """Return the scores (N, K) of the labels, float32."""
        return embeddings[:, list(self.columns)].astype(np.float32)

    def take(self, rows: list[int]) -> ClassifierHead:
        """Return the head that chooses between the labels at some positions."""
        labels, columns = zip(*((self.labels[row], self.columns[row]) for row in rows))
        return ClassifierHead(labels, columns, self.classes)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return `classes` (): how many scores there are; and `columns` (K,) where some were taken."""
        found = {"classes": np.array(self.classes, np.int64)}
        if self.columns == tuple(range(self.classes)):
            return found
        return {**found, "columns": np.array(self.columns, np.int64)}

    @classmethod
    def from_arrays(cls, labels: tuple[str, ...], arrays: Mapping[str, np.ndarray]) -> ClassifierHead:
        """Return the head that a file holds; raises ValueError where it holds none."""
        classes = stored_number(arrays, "classes")
        columns = arrays.get("columns", np.arange(len(labels)))
        inside = columns.dtype.kind in "iu" and columns.ndim == 1 and len(columns) == len(labels)
        if not inside or columns.min() < 0 or not columns.max() < classes:
            raise ValueError(f"{len(labels)} labels do not choose columns of {classes:g} scores")
        return cls(labels, tuple(columns.tolist()), int(classes))


@dataclass(frozen=True)
class ZeroShotHead(Head):
    """`logits = logit_scale * e / |e| @ weight.T` (CLIP, arXiv 2103.00020).

    Attributes:
        labels: K names, all different.
        weight: (K, D) float32, unit rows.
        logit_scale: factor on the cosines.

    Raises:
        ValueError: there is not a row for each label, or a number is NaN or too large.
    """

    formula: ClassVar[str] = "logit_scale * embedding @ weight.T"
    open_vocabulary: ClassVar[bool] = True

    labels: tuple[str, ...]
    weight: np.ndarray
    logit_scale: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "weight", checked("weight", self.weight, len(self.labels), None))
        object.__setattr__(self, "logit_scale", checked_number("logit_scale", self.logit_scale))

    @property
    def dim(self) -> int:
        """Width of the embeddings."""
        return self.weight.shape[1]

    def logits(self, embeddings: np.ndarray) -> np.ndarray:
        """Return (N, K) logits of raw embeddings (N, D), float32."""
        return unit_rows(embeddings, self.logit_scale) @ self.weight.T

    def take(self, rows: list[int]) -> ZeroShotHead:
        """Return the head that chooses between the labels at some positions."""
        return ZeroShotHead(tuple(self.labels[row] for row in rows), self.weight[rows], self.logit_scale)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return `weight` (K, D) and `logit_scale` ()."""
        return {"weight": self.weight, "logit_scale": np.array(self.logit_scale, np.float32)}

    @classmethod
    def from_arrays(cls, labels: tuple[str, ...], arrays: Mapping[str, np.ndarray]) -> ZeroShotHead:
        """Return the head that a file holds; raises ValueError where it holds none."""
        return cls(labels, stored(arrays, "weight"), stored_number(arrays, "logit_scale"))


def head_of_rows(labels: Sequence[str], rows: np.ndarray, head: Head) -> ZeroShotHead:
    """Return a head with other words, as sharp as the given one.

    Args:
        labels: K names.
        rows: text embeddings (K, D), of any length above 0.
        head: of the bundle.

    Raises:
        LabelError: labels and rows do not fit each other or the student, or the bundle's head takes no
            other words: it scores classes, or was fitted on examples of its labels.
    """
    check_words(labels)
    if not isinstance(head, ZeroShotHead):
        raise LabelError(head.closed)
    matrix = np.asarray(rows)
    if matrix.shape != (len(labels), head.dim):
        raise LabelError(
            f"{len(labels)} labels and text embeddings of shape {matrix.shape}:"
            f" expected ({len(labels)}, {head.dim})"
        )
    if matrix.dtype.kind not in "fiu":
        raise LabelError(f"text embeddings of type {matrix.dtype}: expected numbers")
    matrix = matrix.astype(np.float64)
    lengths = np.linalg.norm(matrix, axis=1, keepdims=True)
    if not np.isfinite(lengths).all() or not lengths.all():
        raise LabelError("a text embedding is zero, NaN or infinite")
    return ZeroShotHead(tuple(labels), (matrix / lengths).astype(np.float32), head.logit_scale)


def read_head(bundle: Bundle) -> Head:
    """Read a bundle's head and labels.

    Raises:
        BundleError: the files hold no head of a form that is known, or not a different label for each of
            its classes.
    """
    return parse_head(bundle.read(HEAD_FILE), bundle.read(LABELS_FILE))


def parse_head(data: bytes, labels: bytes) -> Head:
    """Return the head of two files, `head.safetensors` and `labels.txt`; see `read_head`."""
    arrays, metadata = read_safetensors(data, HEAD_FILE)
    names = labels_of(labels)
    try:
        count = _count_of(arrays, metadata)
        if len(names) != count or len(set(names)) != count:
            raise BundleError(LABELS_FILE, f"has {len(names)} labels, expected {count}, all different")
        return _head_of(names, arrays, metadata, DEEPEST)
    except ValueError as error:
        raise BundleError(HEAD_FILE, str(error)) from error


def _count_of(arrays: Mapping[str, np.ndarray], said: Mapping[str, str]) -> int:
    """Return how many labels a head is for."""
    if said.get("form"):
        text = said.get("labels", "")
        if not text.isascii() or not text.isdecimal() or len(text) > 9:
            raise ValueError(f"says that it is for {text[:40]!r} labels")
        return int(text)
    if "columns" in arrays:
        return arrays["columns"].size
    if "classes" in arrays:
        return int(checked_number("classes", stored_number(arrays, "classes")))
    return next(iter(stored(arrays, "weight").shape), 0)


def _head_of(
    labels: tuple[str, ...], arrays: Mapping[str, np.ndarray], said: Mapping[str, str], deeper: int
) -> Head:
    """Return the head of arrays and metadata; what most bundles have no need of is imported only here."""
    form = said.get("form", "")
    if form == "linear":
        from edgeproof_deploy.runtime.linear_head import LinearHead

        return LinearHead.from_arrays(labels, arrays)
    if form == "cache":
        from edgeproof_deploy.runtime.cache_head import CacheHead

        return CacheHead.from_arrays(labels, arrays, said.get("base_form", ""))
    if form == "gallery":
        from edgeproof_deploy.runtime.gallery_head import GalleryHead

        return GalleryHead.from_arrays(labels, arrays)
    if form == "ensemble":
        from edgeproof_deploy.runtime.ensemble_head import EnsembleHead

        if not deeper:
            raise ValueError(f"ensembles lie more than {DEEPEST} deep in each other")
        return EnsembleHead.from_arrays(labels, arrays, said, lambda a, m: _head_of(labels, a, m, deeper - 1))
    if form == "cascade":
        from edgeproof_deploy.runtime.cascade_head import CascadeHead

        if not deeper:
            raise ValueError(f"a cascade lies more than {DEEPEST} deep in other heads")
        return CascadeHead.from_arrays(
            labels, arrays, said, lambda names, a, m: _head_of(names, a, m, deeper - 1)
        )
    if form:
        raise ValueError(f"is of the form {form[:40]!r}, which this runtime does not know")
    return (ClassifierHead if "classes" in arrays else ZeroShotHead).from_arrays(labels, arrays)
