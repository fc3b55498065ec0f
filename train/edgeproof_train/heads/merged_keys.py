"""Fewer keys for a cache head: those of a label that lie near each other become one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edgeproof_deploy.runtime.cache_head import CacheHead
from edgeproof_deploy.runtime.class_values import ClassValues

MOST_ROUNDS = 50


def merge_keys(head: CacheHead, count: int) -> CacheHead:
    """Return a head with at most so many keys, shared out to the labels by how many keys they have.

    Keys of a label are put into groups by k-means. A group becomes its mean, which votes as high as all of
    it: `sum exp(beta k.e)` is `n exp(beta mean.e)` up to the spread of the group. The mean is not brought
    to unit length, which would raise that vote.

    Args:
        head: whose keys vote for one label each.
        count: of keys; at least one for each label that has any.

    Raises:
        ValueError: the keys vote for several labels, or there are not as many as labels.
    """
    values = head.values
    if not isinstance(values, ClassValues):
        raise ValueError("keys that vote for several labels are merged by fitting the head again")
    present, held = np.unique(values.classes, return_counts=True)
    keys, classes, heights = [], [], []
    for label, most in zip(present, shared_out(held, count), strict=True):
        rows = np.flatnonzero(values.classes == label)
        group = grouped(head.keys[rows], int(most))
        for number in range(int(group.max()) + 1):
            members = rows[group == number]
            weights = values.heights[members].astype(np.float64)
            total = weights.sum()
            even = np.full(len(members), 1 / len(members))
            shares = weights / total if total > 0 and (weights >= 0).all() else even
            keys.append(shares @ head.keys[members])
            classes.append(label)
            heights.append(total)
    merged = ClassValues(np.array(classes), np.array(heights), values.count)
    return replace(head, keys=np.array(keys), values=merged)


def shared_out(held: np.ndarray, count: int) -> np.ndarray:
    """Return how many of `count` each of K labels gets: at least 1, at most what it has, else in proportion.

    Raises:
        ValueError: there are fewer than labels.
    """
    if count < len(held):
        raise ValueError(f"{count} keys cannot be shared out among {len(held)} labels")
    if count >= held.sum():
        return held
    wanted = 1 + (held - 1) * (count - len(held)) / max(1, held.sum() - len(held))
    found = np.floor(wanted).astype(np.int64)
    rest = np.argsort(found - wanted, kind="stable")[: count - found.sum()]
    found[rest] += 1
    return np.minimum(found, held)


def grouped(rows: np.ndarray, count: int) -> np.ndarray:
    """Return a group for each of N rows, numbered without gaps: k-means from rows far from each other.

    Nothing is drawn: it starts at the row nearest to the mean and goes on with the one that is farthest from
    all so far. Rows that are equal share a group, so there may be fewer than `count`.
    """
    wide = rows.astype(np.float64)
    if count >= len(wide):
        return np.arange(len(wide))
    centres = wide[_far_apart(wide, count)]
    group = np.full(len(wide), -1)
    for _ in range(MOST_ROUNDS):
        nearest = (2 * wide @ centres.T - (centres**2).sum(axis=1)).argmax(axis=1)
        if (nearest == group).all():
            break
        group = nearest
        centres = np.array(
            [wide[group == n].mean(axis=0) if (group == n).any() else c for n, c in enumerate(centres)]
        )
    return np.unique(group, return_inverse=True)[1].reshape(-1)


def _far_apart(rows: np.ndarray, count: int) -> list[int]:
    """Return the places of up to `count` rows, no two of them equal."""
    chosen = [int(((rows - rows.mean(axis=0)) ** 2).sum(axis=1).argmin())]
    away = ((rows - rows[chosen[0]]) ** 2).sum(axis=1)
    while len(chosen) < count and away.max() > 0:
        chosen.append(int(away.argmax()))
        away = np.minimum(away, ((rows - rows[chosen[-1]]) ** 2).sum(axis=1))
    return chosen
