"""Stored embeddings: `.npy` files of floating-point rows, opened without unpickling and checked in words."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edgeproof_configs.errors import DataError
from edgeproof_data.paths import some_of


def open_array(path: Path) -> np.ndarray:
    """Return a `.npy` file as a memory-mapped array.

    Raises:
        DataError: there is no such file, it is cut, or holds Python objects.
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
    return rows


def open_rows(path: Path) -> np.ndarray:
    """Return a `.npy` file as a memory-mapped array (N, D) of floats.

    Raises:
        DataError: as `open_array`; or it is no (N, D) array of floats.
    """
    rows = open_array(path)
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
    check_rows(rows, path, [f"row {number}" for number in range(len(rows))])
    return np.asarray(rows, dtype=np.float32)


def check_rows(rows: np.ndarray, where: object, names: Sequence[str]) -> None:
    """Refuse embeddings that have no direction.

    Args:
        rows: (N, D).
        where: the file or folder that they are of.
        names: what to call each row.

    Raises:
        DataError: some are zero, NaN or infinite; they are counted and the first ones are named.
    """
    finite = np.isfinite(rows).all(axis=1)
    for word, bad in (("not finite", ~finite), ("zero", finite & ~rows.any(axis=1))):
        if bad.any():
            raise DataError(
                f"{bad.sum()} of {len(rows)} embeddings are {word}: "
                + some_of([names[row] for row in np.flatnonzero(bad).tolist()]),
                where=where,
                fix="compute them again, or take these images or labels out",
            )
