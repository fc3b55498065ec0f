"""One step of a cascade: which labels it chooses between, which it may answer, and who gives the scores."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from edgeproof_deploy.runtime.head_form import (
    Head,
    below,
    checked_number,
    refuse_others,
    stored,
    stored_number,
)

Ask = Callable[[str, np.ndarray], np.ndarray]
"""From the name of a specialist and positions of n images to its scores (n, classes) of them."""

NEVER = 2.0
"""A threshold above every probability: the step passes all on."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
ARRAYS = ("rows", "answers", "threshold", "temperature", "columns", "classes")


@dataclass(frozen=True)
class Step:
    """A head on the embeddings that all steps share, or a specialist that looks at the image itself.

    Attributes:
        rows: (V,) int64, which labels of the cascade it chooses between, in the order of its scores.
        answers: (V,) bool, which of them it may answer; the last step answers all of them.
        threshold: smallest probability of its best label with which it answers.
        temperature: what its scores are divided by before they become probabilities.
        head: on the embeddings, for its V labels; None where a specialist is asked.
        specialist: its name; empty where there is a head.
        columns: (V,) int64, where the labels stand among the specialist's scores.
        classes: how many scores the specialist gives.

    Raises:
        ValueError: shapes do not fit each other, or a number is out of range.
    """

    rows: np.ndarray
    answers: np.ndarray
    threshold: float = 0.0
    temperature: float = 1.0
    head: Head | None = None
    specialist: str = ""
    columns: np.ndarray | None = None
    classes: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "rows", positions("rows", self.rows))
        answers = np.asarray(self.answers)
        if answers.shape != self.rows.shape or not np.isin(answers, (0, 1)).all():
            raise ValueError(
                f"answers of shape {answers.shape}, expected 0 or 1 for each of {len(self.rows)} rows"
            )
        object.__setattr__(self, "answers", answers.astype(bool))
        if not 0 <= self.threshold <= NEVER:
            raise ValueError(f"threshold is {self.threshold:g}, expected 0 to {NEVER:g}")
        if checked_number("temperature", self.temperature) <= 0:
            raise ValueError(f"temperature is {self.temperature:g}, expected more than 0")
        if self.head is not None:
            if len(self.head.labels) != len(self.rows) or self.specialist:
                raise ValueError(f"a step of {len(self.rows)} labels has a head of {len(self.head.labels)}")
            return
        if not NAME.fullmatch(self.specialist):
            raise ValueError(f"a specialist is called {self.specialist[:40]!r}, expected letters and digits")
        columns = positions("columns", self.columns if self.columns is not None else self.rows)
        if columns.shape != self.rows.shape or columns.max() >= self.classes:
            raise ValueError(
                f"the specialist {self.specialist} has {self.classes} scores, not those of the labels"
            )
        object.__setattr__(self, "columns", columns)

    def log_shares(self, embeddings: np.ndarray, images: np.ndarray, ask: Ask | None) -> np.ndarray:
        """Return the logarithms of its probabilities (n, V), float64, of the images at some positions.

        Raises:
            ValueError: a specialist is needed and nobody can be asked, or it gives scores of another shape.
        """
        if self.head is not None:
            scores = self.head.logits(embeddings[images])
        elif ask is None:
            raise ValueError(
                f"the specialist {self.specialist} looks at images: embeddings alone do not decide them"
            )
        else:
            found = ask(self.specialist, images)
            if found.shape != (len(images), self.classes):
                wanted = len(images), self.classes
                raise ValueError(f"the specialist {self.specialist} gives {found.shape}, expected {wanted}")
            scores = found[:, self.columns]
        lower = scores.astype(np.float64) / self.temperature
        lower -= lower.max(axis=1, keepdims=True)
        return lower - np.log(np.exp(lower).sum(axis=1, keepdims=True))

    def take(self, where: Mapping[int, int]) -> Step | None:
        """Return the step for fewer labels; None where it has none left to answer.

        Args:
            where: the new row of each old one that stays.
        """
        kept = [at for at, row in enumerate(self.rows) if int(row) in where]
        if not self.answers[kept].any():
            return None
        kept.sort(key=lambda at: where[int(self.rows[at])])
        rows = np.array([where[int(self.rows[at])] for at in kept], np.int64)
        head = None if self.head is None else self.head.take(kept)
        columns = None if self.columns is None else self.columns[kept]
        numbers = self.threshold, self.temperature
        return Step(rows, self.answers[kept], *numbers, head, self.specialist, columns, self.classes)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return what it is stored as; the arrays of its head after `head.`."""
        found = {
            "rows": self.rows,
            "answers": self.answers.astype(np.int64),
            "threshold": np.array(self.threshold, np.float64),
            "temperature": np.array(self.temperature, np.float64),
        }
        if self.head is not None:
            return found | {f"head.{name}": array for name, array in self.head.arrays().items()}
        assert self.columns is not None
        return found | {"columns": self.columns, "classes": np.array(self.classes, np.int64)}

    def described(self) -> dict[str, str]:
        """Return the metadata beside the arrays."""
        if self.head is None:
            return {"specialist": self.specialist}
        return {f"head.{key}": text for key, text in self.head.described().items()}

    @classmethod
    def from_arrays(
        cls,
        labels: tuple[str, ...],
        arrays: Mapping[str, np.ndarray],
        said: Mapping[str, str],
        read: Callable[[tuple[str, ...], dict[str, np.ndarray], dict[str, str]], Head],
    ) -> Step:
        """Return the step that a part of a file holds.

        Args:
            labels: of the cascade.
            arrays: of the step.
            said: the metadata of the step.
            read: makes a head of its labels, arrays and metadata.

        Raises:
            ValueError: the part holds no step.
        """
        own = {name: array for name, array in arrays.items() if not name.startswith("head.")}
        refuse_others(own, *ARRAYS)
        rows = positions("rows", stored(own, "rows"))
        if rows.max() >= len(labels):
            raise ValueError(f"rows name label {rows.max()} of {len(labels)}")
        threshold, temperature = (stored_number(own, name) for name in ("threshold", "temperature"))
        given = rows, stored(own, "answers"), threshold, temperature
        if len(own) == len(arrays):
            classes = stored_number(own, "classes")
            if not 0 < classes < 1e9:
                raise ValueError(f"a specialist has {classes:g} classes")
            return cls(*given, None, said.get("specialist", ""), stored(own, "columns"), int(classes))
        chosen = tuple(labels[row] for row in rows)
        return cls(*given, read(chosen, below(arrays, "head."), below(said, "head.")))


def positions(name: str, array: np.ndarray) -> np.ndarray:
    """Return positions as int64 (V,); raises ValueError where they are none, or one is there twice."""
    found = np.asarray(array)
    if found.ndim != 1 or not found.size or found.dtype.kind not in "iu" or found.min() < 0:
        raise ValueError(f"{name} of shape {found.shape} and type {found.dtype}: expected positions (V,)")
    if len(np.unique(found)) != len(found):
        raise ValueError(f"{name} name a position twice")
    return found.astype(np.int64)
