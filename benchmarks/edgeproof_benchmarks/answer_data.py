"""What the verify stage found out about the shipped form's answers, as the report reads it.

Four files of `verify/`, all optional, so that older runs still have a report:

`per_class.json`: {"form", "classes": [{"name", "precision" or null, "recall", "f1", "images", "seen"}]}
`calibration.json`: {"form", "images", "ece", "confidence", "accuracy",
    "bins": [{"low", "high", "images", "confidence", "accuracy"}]}, bins without images left out
`embedding.json`: {"form", "space", "dimensions", "images", "labels": [name or null], "unseen": [...],
    "label": [a place among the labels for each point],
    "knn": {"nearest", "accuracy", "neighbours", "images"} or null,
    "pictures": [{"method", "points": [[x, y]], "explained": [share, share] or "perplexity"}]}
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeproof_configs.errors import EdgeproofError


@dataclass(frozen=True)
class ClassRow:
    """Precision, recall and F1 of a class; the precision of a class that is never answered is None."""

    name: str
    precision: float | None
    recall: float
    f1: float
    images: int
    seen: bool


@dataclass(frozen=True)
class Bin:
    """Images with about the same confidence: their mean confidence, and the share that is right."""

    low: float
    high: float
    images: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class Calibration:
    """Whether the probability of the first answer is the share of such answers that is right.

    Attributes:
        error: the expected calibration error, a fraction.
        confidence: mean probability of the first answer.
        accuracy: share of first answers that is right.
        bins: those that hold images.
        images: how many were counted.
    """

    error: float
    confidence: float
    accuracy: float
    bins: tuple[Bin, ...]
    images: int


@dataclass(frozen=True)
class Picture:
    """Points (N, 2) of a method, and what is to be said about it."""

    method: str
    points: np.ndarray
    note: str


@dataclass(frozen=True)
class Neighbours:
    """How often the nearest neighbour of an image, and its `count` nearest ones, name its class."""

    nearest: float
    accuracy: float
    count: int
    images: int


@dataclass(frozen=True)
class Space:
    """The space that the shipped form's outputs lie in.

    Attributes:
        name: `embeddings` or `class scores`.
        dimensions: D.
        images: how many there are.
        labels: classes; None for images without a label.
        label: int64 (N,), place among the labels of each point that is drawn.
        unseen: labels that were held out of training.
        pictures: each with a point for every one of N images.
        knn: of the nearest-neighbour classifier, if measured.
    """

    name: str
    dimensions: int
    images: int
    labels: tuple[str | None, ...]
    label: np.ndarray
    unseen: frozenset[str]
    pictures: tuple[Picture, ...]
    knn: Neighbours | None = None


def read_classes(plain: Mapping[str, Any]) -> tuple[ClassRow, ...]:
    """Read `per_class.json`, lowest F1 first."""
    rows = [
        ClassRow(
            str(row["name"]),
            row.get("precision"),
            float(row["recall"]),
            float(row["f1"]),
            int(row["images"]),
            bool(row.get("seen", True)),
        )
        for row in plain["classes"]
    ]
    return tuple(sorted(rows, key=lambda row: (row.f1, row.recall, row.name)))


def read_calibration(plain: Mapping[str, Any]) -> Calibration:
    """Read `calibration.json`."""
    bins = [
        Bin(one["low"], one["high"], one["images"], one["confidence"], one["accuracy"])
        for one in plain["bins"]
        if one["images"]
    ]
    return Calibration(plain["ece"], plain["confidence"], plain["accuracy"], tuple(bins), plain["images"])


def read_space(plain: Mapping[str, Any]) -> Space:
    """Read `embedding.json`.

    Raises:
        EdgeproofError: a picture has not a point for each label.
    """
    label = np.asarray(plain["label"], np.int64)
    pictures = tuple(read_picture(one) for one in plain["pictures"])
    for picture in pictures:
        if picture.points.shape != (len(label), 2):
            raise EdgeproofError(
                f"the {picture.method} picture has points {picture.points.shape}, expected {len(label)} x 2"
            )
    knn = plain.get("knn")
    return Space(
        name=plain.get("space", "embeddings"),
        dimensions=int(plain["dimensions"]),
        images=int(plain["images"]),
        labels=tuple(plain["labels"]),
        label=label,
        unseen=frozenset(plain.get("unseen") or ()),
        pictures=pictures,
        knn=Neighbours(knn["nearest"], knn["accuracy"], knn["neighbours"], knn["images"]) if knn else None,
    )


def read_picture(plain: Mapping[str, Any]) -> Picture:
    """Read one picture; its note says how much of the variance it shows, or its perplexity."""
    note = ""
    if plain.get("explained"):
        note = f"{100 * sum(plain['explained']):.0f} % of the variance"
    elif plain.get("perplexity"):
        note = f"perplexity {plain['perplexity']:g}; distances between groups mean nothing"
    return Picture(str(plain["method"]), np.asarray(plain["points"], np.float64), note)
