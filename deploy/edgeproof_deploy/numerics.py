"""How far two arrays of embeddings are apart."""

from __future__ import annotations

import numpy as np


def cosines(reference: np.ndarray, candidate: np.ndarray) -> np.ndarray:
    """Return the cosine of each pair of rows, float64 (N,).

    Two equal rows give 1 even where both are zero; a zero row beside another gives 0.
    """
    a, b = reference.astype(np.float64), candidate.astype(np.float64)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    products = (a * b).sum(axis=1)
    found = np.divide(products, lengths, out=np.zeros_like(products), where=lengths > 0)
    return np.where((a == b).all(axis=1), 1.0, np.minimum(found, 1.0))
