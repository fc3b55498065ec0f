"""The confusion matrix as a picture, the pairs that are confused most, and the accuracy of each class."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from edgeproof_benchmarks.formats import percent, plural
from edgeproof_benchmarks.markup import Html, join, tag
from edgeproof_benchmarks.report_data import Confusion
from edgeproof_benchmarks.svg import drawing, shortened, text_width

MOST_CLASSES = 100
LABEL_LENGTH = 22
NUMBERED_FROM = 24
"""Cells of at least so many pixels show their count, and the matrix may shrink to the page."""
SLANTED_FROM = 14
"""Cells of fewer pixels have upright labels above them, which need less room between them."""


@dataclass(frozen=True)
class ClassAccuracy:
    """How often the images of one class are recognised."""

    name: str
    right: int
    count: int
    seen: bool

    @property
    def accuracy(self) -> float:
        """Recall of the class."""
        return self.right / self.count


def class_accuracies(confusion: Confusion) -> list[ClassAccuracy]:
    """Return the classes that have test images, weakest first."""
    counts = confusion.matrix.sum(axis=1)
    found = [
        ClassAccuracy(name, int(confusion.matrix[i, i]), int(counts[i]), name not in confusion.unseen)
        for i, name in enumerate(confusion.labels)
        if counts[i]
    ]
    return sorted(found, key=lambda one: (one.accuracy, one.name))


def confused_pairs(confusion: Confusion, most: int) -> list[tuple[str, str, int, float]]:
    """Return (true, predicted, count, share of the true class), most frequent first."""
    wrong = confusion.matrix - np.diag(np.diag(confusion.matrix))
    order = np.argsort(-wrong, axis=None, kind="stable")[:most]
    rows, columns = np.unravel_index(order, wrong.shape)
    totals = confusion.matrix.sum(axis=1)
    return [
        (confusion.labels[i], confusion.labels[j], int(wrong[i, j]), float(wrong[i, j] / totals[i]))
        for i, j in zip(rows.tolist(), columns.tolist(), strict=True)
        if wrong[i, j] > 0
    ]


def confusion_matrix(confusion: Confusion) -> Html:
    """Return the matrix, a row a true class: right answers blue, mistakes orange, darker for more of them."""
    count = len(confusion.labels)
    cell = float(np.clip(640 / count, 8.6, 34))
    font = min(11.0, cell * 0.98)
    names = [shortened(name, LABEL_LENGTH) for name in confusion.labels]
    margin = max(text_width(name, font) for name in names) + 12
    slant = 55 if cell >= SLANTED_FROM else 90
    sine, cosine = math.sin(math.radians(slant)), math.cos(math.radians(slant))
    top = (margin - 12) * sine + 14
    side = cell * count
    parts = [labels(confusion, names, cell, font, margin, top, slant), cells(confusion, cell, margin, top)]
    parts.append(tag("rect", x=margin, y=top, width=side, height=side, class_="outline"))
    right = int(np.trace(confusion.matrix))
    total = int(confusion.matrix.sum())
    share = percent(right / max(total, 1))
    said = f"{count} classes, {right:,} of {plural(total, 'answer')} on the diagonal ({share})"
    width = margin + side + max((margin - 12) * cosine - cell / 2, 0) + 4
    return drawing(
        round(width),
        round(top + side + 4),
        "Confusion matrix",
        said,
        *parts,
        class_="chart matrix narrow" if cell >= NUMBERED_FROM else "chart matrix",
    )


def labels(
    confusion: Confusion, names: list[str], cell: float, font: float, margin: float, top: float, slant: int
) -> Html:
    """Return the class names on the left (true) and above (predicted); held-out ones are in italics."""
    parts = []
    for index, (name, full) in enumerate(zip(names, confusion.labels, strict=True)):
        style = "tick held" if full in confusion.unseen else "tick"
        middle = (index + 0.5) * cell
        size = f"font-size:{font:.1f}px"
        parts.append(
            tag("text", name, x=margin - 6, y=top + middle + font * 0.35, class_=f"{style} end", style=size)
        )
        place = f"translate({margin + middle + font * 0.3:.1f} {top - 6:.1f}) rotate(-{slant})"
        parts.append(tag("text", name, transform=place, class_=style, style=size))
    return join(parts)


def cells(confusion: Confusion, cell: float, margin: float, top: float) -> Html:
    """Return a square for every count that is not zero; the count itself where there is room."""
    totals = np.maximum(confusion.matrix.sum(axis=1), 1)
    numbered = cell >= NUMBERED_FROM
    darkest = 0.62 if numbered else 1.0
    parts = []
    for i, j in np.argwhere(confusion.matrix > 0).tolist():
        count = int(confusion.matrix[i, j])
        share = float(count / totals[i])
        said = f"{confusion.labels[i]} → {confusion.labels[j]}: {count} ({percent(share, 0)})"
        kind = "right" if i == j else "wrong"
        x, y = margin + j * cell, top + i * cell
        square = tag(
            "rect",
            tag("title", said),
            x=x + 0.5,
            y=y + 0.5,
            width=cell - 1,
            height=cell - 1,
            class_=kind,
            fill_opacity=round(0.12 + (darkest - 0.12) * share**0.6, 2),
        )
        parts.append(square)
        if numbered:
            parts.append(tag("text", str(count), x=x + cell / 2, y=y + cell / 2 + 4, class_="count middle"))
    return join(parts)
