"""What a kind of head says of images that it was not chosen on: the scores by which kinds are compared."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from edgeproof_configs.schema import HeadConfig
from edgeproof_train.heads.evidence import Evidence, Rows
from edgeproof_train.heads.fitting import fit_kind


class Scored(NamedTuple):
    """Images, each scored by a head that did not look at its label.

    Attributes:
        scores: (N, K) of any scale.
        labels: (N,) the true columns.
    """

    scores: np.ndarray
    labels: np.ndarray

    @property
    def right(self) -> np.ndarray:
        """Whether each image was answered rightly, (N,) bool."""
        return self.scores.argmax(axis=1) == self.labels


def held_out(config: HeadConfig, evidence: Evidence, folds: int, seed: int) -> Scored:
    """Return the scores of all validation images, of each by a head for which it was not there.

    The validation images are split into parts, each with its share of every class. A part is scored by a head
    that was fitted on the same shots and chose its hyper-parameters on the other parts.

    Without validation the shots themselves are split, and a part is scored by a head that was fitted on the
    others, with its default hyper-parameters.

    Args:
        config: of the head.
        evidence: with `val`, or with two photos of each class at least.
        folds: number of parts; never more than there are photos of the rarest class.
        seed: of the parts.

    Raises:
        DataError: the kind cannot be fitted on a part.
        ValueError: there is nothing to hold out.
    """
    parts = list(held_out_parts(evidence, folds, seed))
    if not parts:
        raise ValueError("there is neither validation nor a second photo of each class")
    scored = [Scored(fit_kind(config, rest).head(rows.features), rows.labels) for rest, rows in parts]
    return Scored(
        np.concatenate([one.scores for one in scored]), np.concatenate([one.labels for one in scored])
    )


def can_hold_out(evidence: Evidence) -> bool:
    """Whether there are validation images, or a second photo of each class, to hold out."""
    return next(held_out_parts(evidence, 2, 0), None) is not None


def held_out_parts(evidence: Evidence, folds: int, seed: int) -> Iterator[tuple[Evidence, Rows]]:
    """Yield what a head may look at, and the images that are kept from it."""
    if evidence.val is not None:
        count = min(folds, len(evidence.val.labels))
        at = parts_of(evidence.val.labels, count, seed)
        for part in range(count if count > 1 else 0):
            yield replace(evidence, val=rows_at(evidence.val, at != part)), rows_at(evidence.val, at == part)
        return
    if evidence.shots is None:
        return
    photos = evidence.photos()
    count = min(folds, int(np.bincount(photos.labels, minlength=len(evidence.names)).min()))
    at = parts_of(photos.labels, max(1, count), seed)
    for part in range(count if count > 1 else 0):
        rest = rows_at(evidence.shots, np.repeat(at != part, evidence.views))
        yield replace(evidence, shots=rest), rows_at(photos, at == part)


def parts_of(labels_N: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Return a part for each row, (N,) below `count`, so that each has its share of every class."""
    random = np.random.default_rng(seed)
    order = np.lexsort([random.random(len(labels_N)), labels_N])
    parts = np.empty(len(labels_N), np.int64)
    parts[order] = np.arange(len(labels_N)) % count
    return parts


def rows_at(rows: Rows, at: np.ndarray) -> Rows:
    """Return some of the rows."""
    return Rows(rows.features[at], rows.labels[at])
