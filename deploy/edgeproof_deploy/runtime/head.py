"""The classifier on what a model gives: cosines with the text embedding of each label, or its scores."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches

import numpy as np

from edgeproof_deploy.runtime.bundle import Bundle
from edgeproof_deploy.runtime.errors import BundleError, LabelError
from edgeproof_deploy.runtime.safetensors import read_safetensors

HEAD_FILE = "head.safetensors"
LABELS_FILE = "labels.txt"


class Head(ABC):
    """From embeddings to labels.

    Attributes:
        labels: K names, all different.
    """

    labels: tuple[str, ...]

    @property
    @abstractmethod
    def dim(self) -> int:
        """Width of the embeddings that it takes."""

    @abstractmethod
    def logits(self, embeddings: np.ndarray) -> np.ndarray:
        """Return (N, K) logits of raw embeddings (N, D), float32."""

    @abstractmethod
    def take(self, rows: list[int]) -> Head:
        """Return the head that chooses between the labels at some positions."""

    def __call__(self, embeddings: np.ndarray) -> np.ndarray:
        """Return (N, K) logits of raw embeddings (N, D), float32."""
        return self.logits(embeddings)

    def probabilities(self, embeddings: np.ndarray) -> np.ndarray:
        """Return the softmax of the logits over the labels, (N, K)."""
        logits = self.logits(embeddings)
        raised = np.exp(logits - logits.max(axis=1, keepdims=True))
        return raised / raised.sum(axis=1, keepdims=True)

    def only(self, labels: Sequence[str]) -> Head:
        """Return the head that chooses between some of the labels.

        Raises:
            LabelError: a label is not in the bundle or is asked for twice, or none is left.
        """
        rows = {label: row for row, label in enumerate(self.labels)}
        check_words(labels)
        for label in labels:
            if label not in rows:
                near = get_close_matches(label, self.labels, n=3)
                hint = f" Did you mean {' or '.join(repr(word) for word in near)}?" if near else ""
                raise LabelError(
                    f"label '{label}' is not among the {len(self.labels)} labels of this bundle.{hint}"
                    " (For any words: a bundle with deploy.text_encoder, or set_text_embeddings.)"
                )
        return self.take([rows[label] for label in labels])


@dataclass(frozen=True)
class ClassifierHead(Head):
    """`logits = e`: the model scores the classes itself.

    Attributes:
        labels: names of the classes to choose between.
        columns: where their scores stand.
        classes: how many scores the model gives.
    """

    labels: tuple[str, ...]
    columns: tuple[int, ...]
    classes: int

    @property
    def dim(self) -> int:
        """How many scores the model gives."""
        return self.classes

    def logits(self, embeddings: np.ndarray) -> np.ndarray:
        """Return the scores (N, K) of the labels, float32."""
        return embeddings[:, list(self.columns)].astype(np.float32)

    def take(self, rows: list[int]) -> ClassifierHead:
        """Return the head that chooses between the labels at some positions."""
        labels, columns = zip(*((self.labels[row], self.columns[row]) for row in rows))
        return ClassifierHead(labels, columns, self.classes)


@dataclass(frozen=True)
class ZeroShotHead(Head):
    """`logits = logit_scale * e / |e| @ weight.T` (CLIP, arXiv 2103.00020).

    Attributes:
        labels: K names, all different.
        weight: (K, D) float32, unit rows.
        logit_scale: factor on the cosines.
    """

    labels: tuple[str, ...]
    weight: np.ndarray
    logit_scale: float

    @property
    def dim(self) -> int:
        """Width of the embeddings."""
        return self.weight.shape[1]

    def logits(self, embeddings: np.ndarray) -> np.ndarray:
        """Return (N, K) logits of raw embeddings (N, D), float32."""
        lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
        unit = embeddings / np.maximum(lengths, 1e-12)
        return np.float32(self.logit_scale) * (unit @ self.weight.T)

    def take(self, rows: list[int]) -> ZeroShotHead:
        """Return the head that chooses between the labels at some positions."""
        return ZeroShotHead(tuple(self.labels[row] for row in rows), self.weight[rows], self.logit_scale)


def unit_rows(embeddings: np.ndarray, length: float = 1.0) -> np.ndarray:
    """Return embeddings (N, D) as float32 rows of one length; a row of zeros stays as it is.

    Their own lengths are added up in float64, where no square of a float32 overflows or vanishes.
    """
    rows = np.asarray(embeddings, np.float32)
    lengths = np.sqrt(np.einsum("nd,nd->n", rows, rows, dtype=np.float64))
    factors = np.divide(length, lengths, out=np.zeros_like(lengths), where=lengths > 0)
    return (rows * factors[:, None]).astype(np.float32)


def check_words(labels: Sequence[str]) -> None:
    """Refuse labels that cannot be told apart.

    Raises:
        LabelError: there are none, one is there twice, or one is empty or no text.
    """
    if isinstance(labels, str):
        raise LabelError(f"expected a list of labels, got the text '{labels[:40]}'")
    if not len(labels):
        raise LabelError("no labels were given to choose between")
    if not all(isinstance(label, str) and label.strip() for label in labels):
        raise LabelError("a label is empty or no text")
    if len(set(labels)) != len(labels):
        raise LabelError("a label was given twice")


def head_of_rows(labels: Sequence[str], rows: np.ndarray, head: Head) -> ZeroShotHead:
    """Return a head with other words, as sharp as the given one.

    Args:
        labels: K names.
        rows: text embeddings (K, D), of any length above 0.
        head: of the bundle.

    Raises:
        LabelError: labels and rows do not fit each other or the student, or the student scores classes.
    """
    check_words(labels)
    if not isinstance(head, ZeroShotHead):
        raise LabelError("this student scores the classes it was trained on, not words: it takes no others")
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
        BundleError: the files hold neither a matrix of unit rows with a scale nor a number of classes, or not
            a different label for each.
    """
    arrays, _ = read_safetensors(bundle.read(HEAD_FILE), HEAD_FILE)
    if "classes" in arrays:
        labels = checked_labels(bundle, int(arrays["classes"].reshape(-1)[0]))
        return ClassifierHead(labels, tuple(range(len(labels))), len(labels))
    missing = [name for name in ("weight", "logit_scale") if name not in arrays]
    if missing:
        raise BundleError(HEAD_FILE, f"has no array '{missing[0]}', it has {', '.join(arrays) or 'none'}")
    weight, scale = arrays["weight"].astype(np.float32), arrays["logit_scale"].astype(np.float64)
    if weight.ndim != 2 or scale.size != 1 or not np.isfinite(weight).all() or not np.isfinite(scale).all():
        raise BundleError(HEAD_FILE, f"weight {weight.shape} and logit_scale {scale.shape} are not a head")
    return ZeroShotHead(checked_labels(bundle, len(weight)), weight, float(scale.reshape(())))


def checked_labels(bundle: Bundle, count: int) -> tuple[str, ...]:
    """Return the labels of a bundle, which must be as many as the head's rows and all different."""
    labels = read_labels(bundle)
    if len(labels) != count or len(set(labels)) != len(labels):
        raise BundleError(LABELS_FILE, f"has {len(labels)} labels, expected {count}, all different")
    return labels


def read_labels(bundle: Bundle) -> tuple[str, ...]:
    """Return the labels of a bundle, one a line."""
    try:
        text = bundle.read(LABELS_FILE).decode()
    except UnicodeDecodeError as error:
        raise BundleError(LABELS_FILE, f"is not UTF-8: {error}") from error
    return tuple(text.removesuffix("\n").split("\n"))
