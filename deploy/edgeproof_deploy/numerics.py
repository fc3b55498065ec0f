"""How far two arrays of embeddings are apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Numerics:
    """The difference between two arrays of embeddings (N, D), row by row and number by number.

    Rows with NaN or infinity are counted in `nan` and left out of the rest, which is None if no row is left.

    Attributes:
        nan: how many rows hold NaN or infinity in either array.
        cosine_min: the smallest cosine of two rows; `cosine_p1` the first percentile, `cosine_mean` the mean.
        max_abs: the largest absolute difference; `p999_abs` its 99.9th percentile, `mean_abs` its mean.
        range_relative: `max_abs` divided by the range of the reference's values.
        snr_db: 10 log10(sum of reference^2 / sum of difference^2); None where nothing differs.
    """

    nan: int
    cosine_min: float | None = None
    cosine_p1: float | None = None
    cosine_mean: float | None = None
    max_abs: float | None = None
    p999_abs: float | None = None
    mean_abs: float | None = None
    range_relative: float | None = None
    snr_db: float | None = None


def numerics(reference: np.ndarray, candidate: np.ndarray) -> Numerics:
    """Compare two arrays (N, D)."""
    if reference.shape != candidate.shape or reference.ndim != 2:
        raise ValueError(f"expected two arrays (N, D), got {reference.shape} and {candidate.shape}")
    usable = np.isfinite(reference).all(axis=1) & np.isfinite(candidate).all(axis=1)
    nan = int((~usable).sum())
    if not usable.any():
        return Numerics(nan)
    a, b = reference[usable].astype(np.float64), candidate[usable].astype(np.float64)
    cosine, difference = cosines(a, b), np.abs(a - b)
    noise, spread = float((difference**2).sum()), float(np.ptp(a))
    signal = float((a**2).sum())
    return Numerics(
        nan=nan,
        cosine_min=float(cosine.min()),
        cosine_p1=float(np.percentile(cosine, 1)),
        cosine_mean=float(cosine.mean()),
        max_abs=float(difference.max()),
        p999_abs=float(np.percentile(difference, 99.9)),
        mean_abs=float(difference.mean()),
        range_relative=float(difference.max() / spread) if spread else None,
        snr_db=float(10 * np.log10(signal / noise)) if noise and signal else None,
    )


def cosines(reference: np.ndarray, candidate: np.ndarray) -> np.ndarray:
    """Return the cosine of each pair of rows, float64 (N,).

    Two equal rows give 1 even where both are zero; a zero row beside another gives 0.
    """
    a, b = reference.astype(np.float64), candidate.astype(np.float64)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    products = (a * b).sum(axis=1)
    found = np.divide(products, lengths, out=np.zeros_like(products), where=lengths > 0)
    return np.where((a == b).all(axis=1), 1.0, np.minimum(found, 1.0))
