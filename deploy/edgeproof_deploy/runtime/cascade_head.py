"""A head of several steps: each answers what is its own and sure, and passes the rest on to the next."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, cast

import numpy as np

from edgeproof_deploy.runtime.cascade_step import Ask, Step
from edgeproof_deploy.runtime.head_form import Head, below, numbered, refuse_others, stored_number

Combine = Literal["switch", "product"]
MOST_STEPS = 32
LEAST = -30.0
"""Logarithm below which a label lies that no step gave a probability."""
BLOCK = 2048
"""Images that are routed at a time."""


@dataclass(frozen=True)
class Routed:
    """What a cascade said of N images, and who said it.

    Attributes:
        logits: (N, K) float32, logarithms of probabilities.
        arrived: (N, S) bool, which steps looked at an image.
        answered: (N,) int64, the step that answered; where several share an answer, the one with the largest
            part in the best label.
    """

    logits: np.ndarray
    arrived: np.ndarray
    answered: np.ndarray


@dataclass(frozen=True)
class CascadeHead(Head):
    """Steps in order; an image goes on until one answers.

    `switch`: a step answers if its best label is among its `answers` and has at least the probability
    `threshold`; its probabilities are then those of the cascade, and labels that it does not know have none.
    The last step answers what reaches it.

    `product`: the chain rule. A step keeps what it gives to its `answers` and passes the rest r on:
    `p(y) = r p_s(y)` for its answers, then `r <- r (1 - sum of p_s over its answers)`; p_s is its probability
    given that no label is true that an earlier step kept. Where less than `least_share` would be passed on,
    the rest stays as the step has it, and later steps are not asked.

    Attributes:
        labels: K names, all different.
        steps: S of them, at least one with a head.
        combine: how their answers become one.
        least_share: smallest share that `product` passes on.
        width: of the embeddings; that of the heads if not given.

    Raises:
        ValueError: no step answers some label, widths differ, or there are no steps or too many.
    """

    form: ClassVar[str] = "cascade"
    formula: ClassVar[str] = "log probabilities of the step that answers"

    labels: tuple[str, ...]
    steps: tuple[Step, ...]
    combine: Combine = "switch"
    least_share: float = 0.01
    width: int = 0

    def __post_init__(self) -> None:
        if not 1 <= len(self.steps) <= MOST_STEPS:
            raise ValueError(f"a cascade of {len(self.steps)} steps, expected 1 to {MOST_STEPS}")
        if self.combine not in ("switch", "product"):
            raise ValueError(f"a cascade that combines by {self.combine!r}, expected switch or product")
        if not 0 <= self.least_share < 1:
            raise ValueError(f"least_share is {self.least_share:g}, expected 0 to below 1")
        heads = [step.head for step in self.steps if step.head is not None]
        widths = {head.dim for head in heads} | ({self.width} if self.width else set())
        if len(widths) != 1 or any(isinstance(head, CascadeHead) for head in heads):
            raise ValueError("a cascade needs heads, all on embeddings of one width, none a cascade itself")
        object.__setattr__(self, "width", widths.pop())
        last = self.steps[-1]
        steps = (*self.steps[:-1], replace(last, answers=np.ones(len(last.rows), bool), threshold=0.0))
        object.__setattr__(self, "steps", steps)
        if self.combine == "product" and any(left_over.all() for left_over in self._taken()):
            raise ValueError("a step knows only labels that earlier ones keep: product leaves it nothing")
        reached = {int(row) for step in steps for row in step.rows[step.answers]}
        if reached != set(range(len(self.labels))):
            lost = [label for row, label in enumerate(self.labels) if row not in reached]
            raise ValueError(f"{len(lost)} labels are answered by no step, such as {str(lost[:1])[:60]}")

    @property
    def dim(self) -> int:
        """Width of the embeddings."""
        return self.width

    @property
    def specialists(self) -> dict[str, int]:
        """How many scores each specialist gives, by its name."""
        return {step.specialist: step.classes for step in self.steps if step.specialist}

    @property
    def closed(self) -> str:
        """Why it takes no words that it was not made with."""
        return "The steps of this cascade were fitted on their labels and take no other words."

    def logits(self, embeddings: np.ndarray) -> np.ndarray:
        """Return (N, K) logits of raw embeddings (N, D), float32.

        Raises:
            ValueError: an image reaches a specialist, which embeddings do not show: see `asking`.
        """
        return self.routed(embeddings).logits

    def asking(self, ask: Ask) -> AskingCascade:
        """Return the cascade for images whose specialists can be asked."""
        return AskingCascade(self, ask)

    def routed(self, embeddings: np.ndarray, ask: Ask | None = None) -> Routed:
        """Return logits of raw embeddings (N, D), and which step gave them.

        Args:
            embeddings: of N images; each step's head reads the same ones.
            ask: gives the scores of a specialist for images at some positions, of 0 to N - 1.

        Raises:
            ValueError: an image reaches a specialist and there is no `ask`.
        """
        n = len(embeddings)
        logits = np.empty((n, len(self.labels)), np.float32)
        arrived = np.zeros((n, len(self.steps)), bool)
        answered = np.zeros(n, np.int64)
        for start in range(0, n, BLOCK):
            at = np.arange(start, min(start + BLOCK, n))
            logits[at], arrived[at], answered[at] = self._routed(embeddings, at, ask)
        return Routed(logits, arrived, answered)

    def _routed(
        self, embeddings: np.ndarray, at: np.ndarray, ask: Ask | None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return logits, arrivals and the answering step of the images of a block."""
        logs = np.full((len(at), len(self.labels)), -np.inf)
        reach = np.zeros(len(at))
        arrived = np.zeros((len(at), len(self.steps)), bool)
        parts: list[tuple[np.ndarray, np.ndarray]] = []
        taken = self._taken()
        for number, step in enumerate(self.steps):
            images = np.flatnonzero(np.isfinite(reach))
            if not len(images):
                break
            arrived[images, number] = True
            shares = step.log_shares(embeddings, at[images], ask)
            if self.combine == "product" and taken[number].any():
                shares = np.where(taken[number], -np.inf, shares)
                shares -= np.logaddexp.reduce(shares, axis=1)[:, None]
            last = number == len(self.steps) - 1
            kept, passed = self._kept(step, shares, reach[images], last)
            place = np.ix_(images, step.rows)
            logs[place] = np.logaddexp(logs[place], kept)
            reach[images] += passed
            parts.append((images, kept))
        best = logs.argmax(axis=1)
        share = np.full((len(at), len(self.steps)), -np.inf)
        for number, (images, kept) in enumerate(parts):
            column = np.full(len(self.labels), -1)
            column[self.steps[number].rows] = np.arange(len(self.steps[number].rows))
            found = column[best[images]]
            share[images[found >= 0], number] = kept[found >= 0, found[found >= 0]]
        known = np.isfinite(logs)
        floor = np.minimum(np.where(known, logs, np.inf).min(axis=1), LEAST) - 1
        return np.where(known, logs, floor[:, None]), arrived, share.argmax(axis=1)

    def _taken(self) -> list[np.ndarray]:
        """Return for each step which of its labels (V,) an earlier one may answer."""
        earlier: set[int] = set()
        found = []
        for step in self.steps:
            found.append(np.isin(step.rows, list(earlier)))
            earlier.update(int(row) for row in step.rows[step.answers])
        return found

    def _kept(
        self, step: Step, shares: np.ndarray, reach: np.ndarray, last: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the logarithms of what stays with a step (n, V), and of the part that it passes on (n,)."""
        if last:
            return shares + reach[:, None], np.full(len(shares), -np.inf)
        if self.combine == "switch":
            best = shares.argmax(axis=1)
            sure = step.answers[best] & (np.exp(shares.max(axis=1)) >= step.threshold)
            return np.where(sure[:, None], shares, -np.inf), np.where(sure, -np.inf, 0.0)
        others = np.where(step.answers, -np.inf, shares)
        passed = np.logaddexp.reduce(others, axis=1)
        ends = reach + passed < (math.log(self.least_share) if self.least_share else -np.inf)
        ends |= ~np.isfinite(passed)
        own = np.where(step.answers | ends[:, None], shares, -np.inf)
        return own + reach[:, None], np.where(ends, -np.inf, passed)

    def take(self, rows: list[int]) -> CascadeHead:
        """Return the cascade that chooses between the labels at some positions.

        Each step chooses between those that it knows; one that has none left to answer falls away.
        """
        where = {row: number for number, row in enumerate(rows)}
        steps = [left for step in self.steps if (left := step.take(where)) is not None]
        if self.combine == "product":
            kept = [set(step.rows[step.answers].tolist()) for step in steps]
            earlier = [set[int]().union(*kept[:number]) for number in range(len(kept))]
            steps = [step for step, known in zip(steps, earlier) if set(step.rows.tolist()) - known]
        labels = tuple(self.labels[row] for row in rows)
        return CascadeHead(labels, tuple(steps), self.combine, self.least_share, self.width)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return `steps`, `least_share`, `width`, and the arrays of each step after `0.`, `1.` and so on."""
        numbers = {"steps": len(self.steps), "least_share": self.least_share, "width": self.width}
        own = {name: np.array(number, np.float64) for name, number in numbers.items()}
        return own | numbered(step.arrays() for step in self.steps)

    def described(self) -> dict[str, str]:
        """Return the metadata beside the arrays, and those of each step after its number."""
        own = {**super().described(), "combine": self.combine}
        return own | numbered(step.described() for step in self.steps)

    @classmethod
    def from_arrays(
        cls,
        labels: tuple[str, ...],
        arrays: Mapping[str, np.ndarray],
        said: Mapping[str, str],
        read: Callable[[tuple[str, ...], dict[str, np.ndarray], dict[str, str]], Head],
    ) -> CascadeHead:
        """Return the head that a file holds; `read` makes a step's head of labels, arrays and metadata.

        Raises:
            ValueError: the file holds no cascade.
        """
        count, share, width = (stored_number(arrays, name) for name in ("steps", "least_share", "width"))
        if count not in range(1, MOST_STEPS + 1):
            raise ValueError(f"a cascade of {count:g} steps, expected 1 to {MOST_STEPS}")
        starts = [f"{number}." for number in range(int(count))]
        rest = {name: array for name, array in arrays.items() if not name.startswith(tuple(starts))}
        refuse_others(rest, "steps", "least_share", "width")
        if not 0 < width < 1e9:
            raise ValueError(f"a cascade on embeddings of {width:g} numbers")
        steps = [Step.from_arrays(labels, below(arrays, start), below(said, start), read) for start in starts]
        return cls(labels, tuple(steps), cast("Combine", said.get("combine", "")), share, int(width))


@dataclass(frozen=True)
class AskingCascade(Head):
    """A cascade for certain images: row n of the embeddings is of image n, and specialists can look at it.

    Attributes:
        cascade: decides.
        ask: gives the scores of a specialist for images at some positions.
        positions: the image of each row; None: row n is of image n.
    """

    cascade: CascadeHead
    ask: Ask
    positions: np.ndarray | None = None

    @property
    def labels(self) -> tuple[str, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """K names."""
        return self.cascade.labels

    @property
    def dim(self) -> int:
        """Width of the embeddings."""
        return self.cascade.dim

    def logits(self, embeddings: np.ndarray) -> np.ndarray:
        """Return (N, K) logits of the images' raw embeddings (N, D), float32."""
        return self.routed(embeddings).logits

    def routed(self, embeddings: np.ndarray) -> Routed:
        """Return logits of the images' raw embeddings (N, D), and which step gave them."""
        at = self.positions
        if at is None:
            return self.cascade.routed(embeddings, self.ask)
        if len(at) != len(embeddings):
            raise ValueError(f"{len(embeddings)} embeddings for {len(at)} images")
        return self.cascade.routed(embeddings, lambda name, rows: self.ask(name, at[rows]))

    def at(self, rows: np.ndarray) -> AskingCascade:
        """Return the same for some of the images."""
        return replace(self, positions=rows if self.positions is None else self.positions[rows])

    def take(self, rows: list[int]) -> AskingCascade:
        """Return the cascade that chooses between the labels at some positions."""
        return replace(self, cascade=self.cascade.take(rows))

    def arrays(self) -> dict[str, np.ndarray]:
        """Return what the cascade is stored as."""
        return self.cascade.arrays()

    def described(self) -> dict[str, str]:
        """Return the metadata of the cascade."""
        return self.cascade.described()
