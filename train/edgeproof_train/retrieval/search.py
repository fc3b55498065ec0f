"""Exact search by cosine, in blocks, so that memory does not grow with queries times gallery."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

BLOCK_SCORES = 1 << 22
"""Cosines that are held at a time: 32 MB, and as much again for the keys that they are sorted by."""

COSINE_STEP = 1e-9
"""Cosines that differ by less are equal: how a product is summed depends on where in a block it stands."""

_PLACE_BITS = 32
_PLACE = np.int64((1 << _PLACE_BITS) - 1)


def directions(rows_ND: np.ndarray, name: str) -> np.ndarray:
    """Return the rows divided by their length, float64.

    Raises:
        ValueError: there are no rows, or one is zero or not finite and has no direction.
    """
    wide = np.asarray(rows_ND, np.float64)
    if wide.ndim != 2 or not wide.size:
        raise ValueError(f"{name}: expected embeddings (N, D), got {wide.shape}")
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    bad = np.flatnonzero(~(np.isfinite(lengths[:, 0]) & (lengths[:, 0] > 0)))
    if len(bad):
        raise ValueError(f"{name}: {len(bad)} embeddings are zero or not finite, the first is row {bad[0]}")
    return wide / lengths


def block_rows(targets: int, scores: int = BLOCK_SCORES) -> int:
    """Return how many queries are compared with `targets` items at once: at most `scores` cosines."""
    return max(1, scores // max(1, targets))


def ranked_blocks(
    queries_QD: np.ndarray,
    gallery_ND: np.ndarray,
    own_Q: np.ndarray | None = None,
    *,
    block: int | None = None,
) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield which queries, and the gallery's positions (B, T) in the order in which each finds them.

    The nearest comes first, equally near ones in the order of the gallery. T is N, or N - 1 where a query
    is in the gallery itself and left out.

    Args:
        queries_QD: unit rows, float64, see `directions`.
        gallery_ND: unit rows, float64.
        own_Q: (Q,) position of each query in the gallery; None where it is not there.
        block: queries at once; as many as `BLOCK_SCORES` allows if not given.
    """
    targets = len(gallery_ND) - (own_Q is not None)
    for where, keys in _key_blocks(queries_QD, gallery_ND, own_Q, block):
        keys.sort(axis=1)
        yield where, keys[:, :targets] & _PLACE


def top_k(
    queries_QD: np.ndarray,
    gallery_ND: np.ndarray,
    k: int,
    own_Q: np.ndarray | None = None,
    *,
    block: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the positions (Q, k), int64, of the nearest items in order, and their cosines, float64.

    Arguments and order are those of `ranked_blocks`; the cosines are multiples of `COSINE_STEP`.

    Raises:
        ValueError: there are not so many items.
    """
    targets = len(gallery_ND) - (own_Q is not None)
    if not 1 <= k <= targets:
        raise ValueError(f"the {k} nearest of {targets} items: k must be 1 to {targets}")
    best = np.empty((len(queries_QD), k), np.int64)
    for where, keys in _key_blocks(queries_QD, gallery_ND, own_Q, block):
        keys.partition(k - 1, axis=1)
        best[where] = np.sort(keys[:, :k], axis=1)
    return best & _PLACE, 1 - COSINE_STEP * (best >> _PLACE_BITS)


def _key_blocks(
    queries_QD: np.ndarray, gallery_ND: np.ndarray, own_Q: np.ndarray | None, block: int | None
) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield which queries, and their keys (B, N), of which the one at their own place is the largest."""
    rows = block or block_rows(len(gallery_ND))
    for start in range(0, len(queries_QD), rows):
        where = slice(start, min(start + rows, len(queries_QD)))
        keys = _keys(queries_QD[where] @ gallery_ND.T)
        if own_Q is not None:
            keys[np.arange(len(keys)), own_Q[where]] = np.iinfo(np.int64).max
        yield where, keys


def _keys(cosines_BN: np.ndarray) -> np.ndarray:
    """Return int64 (B, N) that sort as the cosines fall, equal ones by position; the cosines are lost.

    Above the position (32 bits) stands the distance in steps (31 bits): all keys differ, so that any sort
    is stable.
    """
    np.subtract(1, cosines_BN, out=cosines_BN)
    np.multiply(cosines_BN, 1 / COSINE_STEP, out=cosines_BN)
    np.rint(cosines_BN, out=cosines_BN)
    # A unit vector's cosine to itself may exceed one by a rounding: its distance is none.
    np.maximum(cosines_BN, 0, out=cosines_BN)
    keys = cosines_BN.astype(np.int64)
    keys <<= _PLACE_BITS
    keys |= np.arange(keys.shape[1])
    return keys
