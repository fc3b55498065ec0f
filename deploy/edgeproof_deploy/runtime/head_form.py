"""What every head is: embeddings in, a score for each label out; stored as named arrays."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import ClassVar, TypeVar

import numpy as np

from edgeproof_deploy.runtime.errors import LabelError

Value = TypeVar("Value")

LARGEST = 1e9
"""No number of a head may be larger, so that no sum of products leaves float32."""
EXACT_SQUARES = (1e-24, 1e24)
"""Between these a sum of squares has all its digits in float32."""


class Head(ABC):
    """From embeddings to labels.

    Attributes:
        labels: K names, all different.
        form: name of the form in the metadata of the file; none where the file says it by its arrays.
        formula: of the logits, in the names of the arrays.
        open_vocabulary: whether it takes words that it was not made with.
    """

    labels: tuple[str, ...]
    form: ClassVar[str] = ""
    formula: ClassVar[str]
    open_vocabulary: ClassVar[bool] = False

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

    @abstractmethod
    def arrays(self) -> dict[str, np.ndarray]:
        """Return what it is stored as: the arrays of a safetensors file."""

    def at(self, rows: np.ndarray) -> Head:
        """Return the head for the images at some positions, where it was bound to images."""
        del rows
        return self

    def described(self) -> dict[str, str]:
        """Return the metadata beside the arrays."""
        return {"form": self.form, "labels": str(len(self.labels))} if self.form else {}

    def __call__(self, embeddings: np.ndarray) -> np.ndarray:
        """Return (N, K) logits of raw embeddings (N, D), float32.

        Raises:
            ValueError: they are no numbers, not rows of the width of the head, or NaN or infinite.
        """
        return self.logits(checked_rows(embeddings, self.dim))

    def probabilities(self, embeddings: np.ndarray) -> np.ndarray:
        """Return the softmax of the logits over the labels, (N, K).

        Raises:
            ValueError: as for a call.
        """
        return softmax(self.logits(checked_rows(embeddings, self.dim)))

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
                    f" {self.other_words}"
                )
        return self.take([rows[label] for label in labels])

    @property
    def other_words(self) -> str:
        """Where words that it does not know can be asked about."""
        if self.open_vocabulary:
            return "(For any words: a bundle with deploy.text_encoder, or set_text_embeddings.)"
        return f"({self.closed})"

    @property
    def closed(self) -> str:
        """Why it takes no words that it was not made with."""
        return "This head was fitted on its labels and takes no other words; one of kind zero_shot does."


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return the shares (N, K) that logits stand for."""
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True)


def unit_rows(embeddings: np.ndarray, length: float = 1.0) -> np.ndarray:
    """Return embeddings (N, D) as float32 rows of one length; a row of zeros stays as it is.

    Lengths whose squares would overflow or vanish in float32 are added up in float64.
    """
    rows = np.asarray(embeddings, np.float32)
    if len(rows) == 1:
        # A camera asks for one image at a time: scalars take a tenth of the time of arrays of one.
        with np.errstate(over="ignore"):
            square = float(np.dot(rows[0], rows[0]))
        if EXACT_SQUARES[0] < square < EXACT_SQUARES[1]:
            return rows * np.float32(length / math.sqrt(square))
    lengths = np.sqrt(np.einsum("nd,nd->n", rows, rows, dtype=np.float64))
    factors = np.divide(length, lengths, out=np.zeros_like(lengths), where=lengths != 0)
    return np.multiply(rows, factors[:, None], out=np.empty_like(rows), casting="same_kind")


def checked_rows(embeddings: np.ndarray, dim: int) -> np.ndarray:
    """Return embeddings as an array (N, D); raises ValueError where they cannot be scored."""
    rows = np.asarray(embeddings)
    if rows.dtype.kind not in "fiu":
        raise ValueError(f"embeddings are of type {rows.dtype}, expected numbers")
    if rows.ndim != 2 or rows.shape[1] != dim:
        one = f"; a single one is [embedding], (1, {dim})" if rows.shape == (dim,) else ""
        raise ValueError(f"embeddings have the shape {rows.shape}, expected (N, {dim}){one}")
    # A NaN or an infinity makes the sum of squares one; a look at every number is taken only then.
    flat = rows.ravel()
    if not np.isfinite(np.vdot(flat, flat)):
        finite = np.isfinite(rows).all(axis=1)
        if not finite.all():
            raise ValueError(f"embedding {int(np.argmin(finite))} is NaN or infinite")
    return rows


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


def checked(name: str, array: np.ndarray, *shape: int | None) -> np.ndarray:
    """Return an array of a head as float32.

    Args:
        name: of the array.
        array: any numbers.
        shape: that it must have; None for any side.

    Raises:
        ValueError: it has another shape, or holds something else than finite numbers up to `LARGEST`.
    """
    found = np.asarray(array)
    if found.ndim != len(shape) or any(want not in (None, side) for want, side in zip(shape, found.shape)):
        wanted = ", ".join("any" if side is None else str(side) for side in shape)
        raise ValueError(f"{name} has the shape {found.shape}, expected ({wanted})")
    if found.dtype.kind not in "fiu":
        raise ValueError(f"{name} is of type {found.dtype}, expected numbers")
    if found.dtype == np.float16:
        found = found.astype(np.float32)
    if found.size and not (found.max() <= LARGEST and found.min() >= -LARGEST):
        raise ValueError(f"{name} holds NaN or a number beyond {LARGEST:g}")
    return np.ascontiguousarray(found, np.float32)


def checked_number(name: str, value: float) -> float:
    """Return a number of a head; raises ValueError where it is NaN or beyond `LARGEST`."""
    if not abs(value) <= LARGEST:
        raise ValueError(f"{name} is {value:g}, expected a number up to {LARGEST:g}")
    return float(value)


def stored(arrays: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    """Return an array of a file; raises ValueError where it is missing."""
    if name not in arrays:
        raise ValueError(f"has no array '{name}', it has {', '.join(arrays) or 'none'}")
    return arrays[name]


def stored_number(arrays: Mapping[str, np.ndarray], name: str) -> float:
    """Return an array of one number; raises ValueError where it is missing or holds more."""
    array = stored(arrays, name)
    if array.size != 1:
        raise ValueError(f"{name} has the shape {array.shape}, expected one number")
    return float(array.reshape(()))


def numbered(tables: Iterable[Mapping[str, Value]]) -> dict[str, Value]:
    """Return the entries of several tables as one, their names after `0.`, `1.` and so on."""
    return {f"{number}.{name}": value for number, table in enumerate(tables) for name, value in table.items()}


def below(table: Mapping[str, Value], start: str) -> dict[str, Value]:
    """Return the entries whose names begin with `start`, without it."""
    return {name.removeprefix(start): value for name, value in table.items() if name.startswith(start)}


def refuse_others(arrays: Mapping[str, np.ndarray], *known: str) -> None:
    """Raise ValueError where a file holds an array that its form has no use for."""
    others = [name for name in arrays if name not in known]
    if others:
        raise ValueError(f"has an array '{others[0]}', expected {', '.join(known)}")
