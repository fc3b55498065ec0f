"""Stored embeddings: `.npy` files of floating-point rows, opened without unpickling and checked in words."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from edgeproof_configs.errors import DataError

ROWS_AT_ONCE = 65536


def open_rows(path: Path) -> np.ndarray:
    """Return a `.npy` file as a memory-mapped array (N, D) of floats.

    Raises:
        DataError: there is no such file, it is cut, holds Python objects, or is no (N, D) array of floats.
    """
    if not path.is_file():
        raise DataError("there is no such file of embeddings", where=path)
    try:
        rows = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise DataError(
            f"not a readable .npy array: {error}", where=path, fix="write it with numpy.save(file, array)"
        ) from error
    if not isinstance(rows, np.ndarray):
        rows.close()
        raise DataError("an .npz archive, expected one .npy array", where=path)
    if rows.ndim != 2 or rows.dtype.kind != "f" or not rows.shape[1]:
        raise DataError(
            f"expected floating-point embeddings (N, D), got {rows.dtype} of shape {rows.shape}", where=path
        )
    return rows


def read_rows(path: Path) -> np.ndarray:
    """Return a `.npy` file of embeddings (N, D) as float32, checked.

    Raises:
        DataError: as `open_rows`; or a row is zero or not finite.
    """
    rows = open_rows(path)
    check_rows(rows, path)
    return np.asarray(rows, dtype=np.float32)


def check_rows(rows: np.ndarray, path: Path) -> None:
    """Refuse rows that have no direction.

    Raises:
        DataError: a row is zero, NaN or infinite; the first one is named and all are counted.
    """
    bad: dict[str, list[int]] = {"not finite": [], "zero": []}
    for start, block in blocks(rows):
        finite = np.isfinite(block).all(axis=1)
        zero = finite & ~block.any(axis=1)
        bad["not finite"] += (start + np.flatnonzero(~finite)).tolist()
        bad["zero"] += (start + np.flatnonzero(zero)).tolist()
    for word, indices in bad.items():
        if indices:
            raise DataError(
                f"{len(indices)} of {len(rows)} embeddings are {word}, first row {indices[0]} (from 0)",
                where=path,
                fix="compute them again, or take these images out",
            )


def blocks(rows: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Yield an array in pieces that fit into memory, each with the number of its first row."""
    for start in range(0, len(rows), ROWS_AT_ONCE):
        yield start, np.asarray(rows[start : start + ROWS_AT_ONCE])
