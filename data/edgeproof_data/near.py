"""Finding pictures that look the same: perceptual hashes that differ in few bits."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edgeproof_configs.errors import MissingPackageError

Hashes = NDArray[np.uint64]
MOST_DIFFERENT_BITS = 6
HASH_BITS = 64
ROWS_AT_ONCE = 1024
ONES = np.array([value.bit_count() for value in range(256)], np.uint8)


def perceptual_hash(image: Image.Image) -> int:
    """Return the 64-bit DCT hash of a picture.

    Raises:
        MissingPackageError: `imagehash` is not installed.
    """
    check_near()
    from imagehash import phash

    return int(str(phash(image)), 16)


def check_near() -> None:
    """Refuse to look for near duplicates where that cannot be done.

    Raises:
        MissingPackageError: `imagehash` is not installed.
    """
    try:
        import imagehash  # noqa: F401 - asked for before work is done that would be lost
    except ModuleNotFoundError as error:
        raise MissingPackageError(
            f"package '{error.name}' is needed to find near duplicates", fix="pip install 'edgeproof[data]'"
        ) from error


def near_groups(hashes: Hashes, most_different_bits: int = MOST_DIFFERENT_BITS) -> list[list[int]]:
    """Return groups of positions whose hashes are linked by differences of a few bits, largest group first.

    Hashes that differ in at most k bits agree wholly in at least one of k + 1 bands of bits, so only pairs
    that share a band are compared; none is missed.
    """
    distinct, number = np.unique(hashes, return_inverse=True)
    rows, columns = (
        np.concatenate(ends) for ends in zip(*_pairs(distinct, most_different_bits), strict=True)
    )
    members = np.unique(number, return_index=True)[1]
    same = np.flatnonzero(members[number] != np.arange(len(number)))
    return linked_groups(
        np.concatenate([members[rows], members[number[same]]]),
        np.concatenate([members[columns], same]),
        len(hashes),
    )


def linked_groups(first: NDArray[np.int64], second: NDArray[np.int64], count: int) -> list[list[int]]:
    """Return the groups of at least two of `count` positions that links hold together, largest group first.

    Args:
        first: (L,) one end of each link.
        second: (L,) the other end.
        count: number of positions.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    links = coo_array((np.ones(len(first), bool), (first, second)), shape=(count, count))
    component = connected_components(links, directed=False)[1]
    order = np.argsort(component, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(component[order])) + 1)
    return sorted(
        (group.tolist() for group in groups if len(group) > 1), key=lambda group: (-len(group), group)
    )


def _pairs(hashes: Hashes, most: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield both ends of pairs of close hashes, block by block; the first block is empty."""
    nothing = np.zeros(0, np.int64)
    yield nothing, nothing
    edges = np.linspace(0, HASH_BITS, most + 2).round().astype(int)
    for low, high in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        band = (hashes >> np.uint64(low)) & np.uint64((1 << (high - low)) - 1)
        order = np.argsort(band, kind="stable")
        for members in np.split(order, np.flatnonzero(np.diff(band[order])) + 1):
            for start in range(0, len(members) - 1, ROWS_AT_ONCE):
                some = members[start : start + ROWS_AT_ONCE]
                row, column = np.nonzero(_distance(hashes[some], hashes[members]) <= most)
                yield some[row], members[column]


def _distance(rows: Hashes, columns: Hashes) -> NDArray[np.uint8]:
    """Return the number of different bits of each row and column."""
    different = rows[:, None] ^ columns[None, :]
    return ONES[different[..., None].view(np.uint8)].sum(axis=-1, dtype=np.uint8)
