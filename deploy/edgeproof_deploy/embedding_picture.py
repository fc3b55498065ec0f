"""Where embeddings lie, as points on a plane: PCA, and t-SNE where there are few images."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

from edgeproof_train.metrics import unit_rows

MOST_POINTS = 1500
MOST_FOR_TSNE = 300
"""t-SNE of more images would take longer than the rest of the pictures."""
FEWEST_FOR_TSNE = 12
PERPLEXITY = 30.0
DIGITS = 4


def embedding_pictures(rows: np.ndarray) -> list[dict[str, Any]]:
    """Return pictures of embeddings (N, D) of any length, each with a point for every row.

    The rows are brought to length 1 first: only their direction says which word an image is near to.

    Returns:
        `{"method": "PCA", "explained": [share of the variance on each axis], "points": [[x, y], ...]}` and,
        up to `MOST_FOR_TSNE` rows, `{"method": "t-SNE", "perplexity", "points"}` (van der Maaten and Hinton,
        JMLR 2008); nothing where the rows are all alike, fewer than three, or one number each.
    """
    unit = unit_rows(rows)
    if len(unit) < 3 or unit.shape[1] < 2 or np.ptp(unit, axis=0).max() < 1e-9:
        return []
    pca = PCA(2, svd_solver="full")
    points = pca.fit_transform(unit)
    explained = [round(float(share), DIGITS) for share in pca.explained_variance_ratio_]
    pictures: list[dict[str, Any]] = [
        {"method": "PCA", "explained": explained, "points": rounded(points, unit)}
    ]
    if FEWEST_FOR_TSNE <= len(unit) <= MOST_FOR_TSNE:
        perplexity = min(PERPLEXITY, (len(unit) - 1) / 3)
        found = TSNE(2, init="pca", perplexity=perplexity, random_state=0).fit_transform(unit)
        pictures.append(
            {"method": "t-SNE", "perplexity": round(perplexity, 1), "points": rounded(found, found)}
        )
    return pictures


def rounded(points: np.ndarray, scale: np.ndarray) -> list[list[float]]:
    """Return points (N, 2) as plain numbers, with as many digits as a picture can show."""
    digits = DIGITS - int(np.floor(np.log10(np.abs(scale).max())))
    return np.round(points.astype(np.float64), digits).tolist()
