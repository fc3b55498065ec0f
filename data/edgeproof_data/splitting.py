"""Taking a validation part out of the training images, by class and reproducibly."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]


def stratified_split(
    paths: Sequence[str], labels: Indices, fraction: float, seed: int
) -> tuple[Indices, Indices]:
    """Return the positions that stay and those that are taken out, both ascending.

    Each class gives its share, rounded so that the whole comes out right (largest remainder), and keeps at
    least one image. Which images go is decided by a hash of seed and path, so that the choice does not depend
    on the order of the files.

    Args:
        paths: of the images.
        labels: (N,) any integers; images with the same one are a class.
        fraction: how much to take out, above 0 and below 1.
        seed: another seed takes others out.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"fraction must be above 0 and below 1, got {fraction}")
    draw = np.array([_draw(path, seed) for path in paths], np.uint64)
    classes, counts = np.unique(labels, return_counts=True)
    by_class = [np.flatnonzero(labels == label) for label in classes]
    ties = [int(draw[members].min()) for members in by_class]
    taken = []
    for members, share in zip(by_class, _shares(counts, fraction, ties), strict=True):
        taken.append(members[np.argsort(draw[members], kind="stable")[:share]])
    out = np.sort(np.concatenate(taken))
    stay = np.setdiff1d(np.arange(len(paths)), out)
    return stay, out


def hash_order(paths: Sequence[str], seed: int) -> Indices:
    """Return the positions of paths in the order of a hash of seed and path."""
    return np.argsort(np.array([_draw(path, seed) for path in paths], np.uint64), kind="stable")


def _shares(counts: Indices, fraction: float, ties: list[int]) -> list[int]:
    """Return how many images each class gives; `ties` ranks classes whose remainders are equal."""
    exact = counts * fraction
    shares = np.minimum(np.floor(exact).astype(np.int64), counts - 1)
    wanted = max(1, round(float(exact.sum())))
    most_owed = sorted(range(len(counts)), key=lambda index: (shares[index] - exact[index], ties[index]))
    for index in most_owed:
        if shares.sum() < wanted and shares[index] < counts[index] - 1:
            shares[index] += 1
    return shares.tolist()


def _draw(path: str, seed: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}:{path}".encode()).digest()[:8], "big")
