"""Fewer objects for a gallery: of those of a class that lie near each other, some are left out."""

from __future__ import annotations

import numpy as np

from edgeproof_deploy.runtime.gallery_head import GalleryHead

HEADER_BYTES = 64
"""By how much the header of a file may grow or shrink with the digits of its numbers, and then some."""


def objects_within(head: GalleryHead, size: int, max_bytes: int, number_bytes: int) -> GalleryHead | None:
    """Return a gallery of as many objects as fit into so many bytes; None where not one a class does.

    Args:
        head: the gallery.
        size: the bytes that it takes as a file.
        max_bytes: that it may take.
        number_bytes: of each number of a row, 2 in half precision.
    """
    order = far_first(head)
    names = np.array([len(head.objects[n].encode()) + 1 for n in order.tolist()])
    each = head.dim * number_bytes + head.classes.itemsize + names
    over = size - max_bytes + HEADER_BYTES
    saved = np.cumsum(each[::-1])
    kept = len(order) - int(np.searchsorted(saved, over)) - 1
    if kept < len(np.unique(head.classes)):
        return None
    return head.of(np.sort(order[:kept]))


def far_first(head: GalleryHead) -> np.ndarray:
    """Return the positions of the objects in an order in which the first few stand far from each other.

    In each class the object nearest to the mean comes first, then always the one that is farthest from all
    before it (Gonzalez 1985). All classes together are ordered by how far an object was when it came.
    """
    away = np.empty(len(head.keys))
    for label in np.unique(head.classes):
        rows = np.flatnonzero(head.classes == label)
        away[rows] = distances_when_chosen(head.keys[rows].astype(np.float64))
    return np.argsort(-away, kind="stable")


def distances_when_chosen(rows: np.ndarray) -> np.ndarray:
    """Return for each unit row (N, D) how far it was from those chosen before it; infinity for the first."""
    found = np.full(len(rows), -1.0)
    number = int((rows @ rows.mean(axis=0)).argmax())
    found[number] = np.inf
    near = 1 - rows @ rows[number]
    for _ in range(len(rows) - 1):
        number = int(np.where(found < 0, near, -np.inf).argmax())
        found[number] = max(float(near[number]), 0.0)
        near = np.minimum(near, 1 - rows @ rows[number])
    return found
