"""Exact search by cosine, in blocks, so that memory does not grow with queries times gallery."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

BLOCK_SCORES = 1 << 22
"""Cosines that are held at a time: 16 MB, and 32 MB of the keys that they are sorted by."""

COSINE_STEP = 1e-6
"""Cosines that differ by less are equal: float32 sums do not order them, and equal images must tie."""

_PLACE_BITS = 32
_PLACE = np.int64((1 << _PLACE_BITS) - 1)


def directions(rows_ND: np.ndarray, name: str) -> np.ndarray:
    """Return the rows divided by their length, float32.

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
    return (wide / lengths).astype(np.float32)


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
        queries_QD: unit rows, float32, see `directions`.
        gallery_ND: unit rows, float32.
        own_Q: (Q,) position of each query in the gallery; None where it is not there.
        block: queries at once; as many as `BLOCK_SCORES` allows if not given.
    """
    rows = block or block_rows(len(gallery_ND))
    targets = len(gallery_ND) - (own_Q is not None)
    for start in range(0, len(queries_QD), rows):
        where = slice(start, min(start + rows, len(queries_QD)))
        keys = _keys(queries_QD[where] @ gallery_ND.T)
        if own_Q is not None:
            keys[np.arange(len(keys)), own_Q[where]] = np.iinfo(np.int64).max
        keys.sort(axis=1)
        yield where, keys[:, :targets] & _PLACE


def _keys(cosines_BN: np.ndarray) -> np.ndarray:
    """Return int64 (B, N) that sort as the cosines fall, equal ones by position; the cosines are lost.

    Above the position (32 bits) stands the distance in steps: all keys differ, so that any sort is stable.
    """
    np.subtract(np.float32(1), cosines_BN, out=cosines_BN)
    np.multiply(cosines_BN, np.float32(1 / COSINE_STEP), out=cosines_BN)
    np.rint(cosines_BN, out=cosines_BN)
    # A unit vector's cosine to itself may exceed one by a rounding: its distance is none.
    np.maximum(cosines_BN, 0, out=cosines_BN)
    keys = cosines_BN.astype(np.int64)
    keys <<= _PLACE_BITS
    keys |= np.arange(keys.shape[1])
    return keys
