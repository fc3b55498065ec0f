"""Kernel ridge regression on the sphere, exactly or in the span of fewer centres.

All in numpy: where its products take turns with torch's, the threads of the one wait for those of the other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from edgeproof_train.heads.class_sums import class_sums
from edgeproof_train.heads.evidence import Rows
from edgeproof_train.heads.merged_keys import grouped, shared_out
from edgeproof_train.metrics import unit_rows

BLOCK_NUMBERS = 1 << 22
"""Kernel values of one block of rows, 32 MB in float64."""
JITTER = 1e-10


class System(NamedTuple):
    """The equations `(gram + ridge penalty) c = target` of one beta.

    Attributes:
        gram: (M, M) float64.
        penalty: (M, M) float64, or None for the identity.
        target: (M, K) float64.
    """

    gram: np.ndarray
    penalty: np.ndarray | None
    target: np.ndarray

    def solved(self, ridge: float) -> np.ndarray:
        """Return the coefficients c, (M, K) float64; ridge must be above 0."""
        matrix = self.gram.copy() if self.penalty is None else self.gram + ridge * self.penalty
        size = len(matrix)
        matrix[np.diag_indices(size)] += ridge if self.penalty is None else JITTER * np.trace(matrix) / size
        return np.linalg.solve(matrix, self.target)


def kernel(first_ND: np.ndarray, second_MD: np.ndarray, beta: float) -> np.ndarray:
    """Return `exp(-beta (1 - x.x'))` of unit rows, (N, M), in their type."""
    near = first_ND @ second_MD.T
    near -= 1
    near *= near.dtype.type(beta)
    return np.exp(near, out=near)


def exact_system(keys_ND: np.ndarray, residual_NK: np.ndarray, beta: float) -> System:
    """Return the equations of kernel ridge regression, `(K + ridge I) c = R`."""
    wide = keys_ND.astype(np.float64)
    return System(kernel(wide, wide, beta), None, residual_NK.astype(np.float64))


def reduced_system(
    keys_ND: np.ndarray, residual_NK: np.ndarray, centres_MD: np.ndarray, beta: float
) -> System:
    """Return the equations of the regression on all keys by a function in the span of some centres.

    `(K_mn K_nm + ridge K_mm) c = K_mn R` (subset of regressors). With the keys themselves as centres it is
    the exact solution. Kernel values are added up in blocks.
    """
    size, classes = len(centres_MD), residual_NK.shape[1]
    gram, target = np.zeros((size, size)), np.zeros((size, classes))
    step = max(1, BLOCK_NUMBERS // size)
    for start in range(0, len(keys_ND), step):
        near = kernel(keys_ND[start : start + step], centres_MD, beta)
        target += near.T @ residual_NK[start : start + step]
        wide = near.astype(np.float64)
        gram += wide.T @ wide
    own = centres_MD.astype(np.float64)
    return System(gram, kernel(own, own, beta), target)


def keys_and_systems(
    shots: Rows, residual_NK: np.ndarray, most: int, *, half: bool = False
) -> tuple[np.ndarray, Callable[[float], System]]:
    """Return the rows that a regression on some shots is made of, and its equations for each beta.

    Args:
        shots: unit features and their classes.
        residual_NK: what is regressed.
        most: rows; with more shots than that, centres stand for them.
        half: whether the rows are made numbers of half precision first, so that keeping them in it changes
            nothing: coefficients of opposite signs would make much of what rounding moves later.
    """
    exact = most >= len(shots.labels)
    centres = shots.features if exact else centres_of(shots, most)
    if half:
        centres = centres.astype(np.float16).astype(np.float32)
    if exact:
        return centres, lambda beta: exact_system(centres, residual_NK, beta)
    return centres, lambda beta: reduced_system(shots.features, residual_NK, centres, beta)


def centres_of(keys: Rows, count: int) -> np.ndarray:
    """Return at most so many unit rows that stand for the keys, some for each class: k-means, nothing drawn.

    Raises:
        ValueError: there are fewer than classes.
    """
    held = np.unique(keys.labels, return_counts=True)[1]
    order = np.argsort(keys.labels, kind="stable")
    features = keys.features[order]
    parts: Sequence[np.ndarray] = np.split(features, np.cumsum(held)[:-1])
    groups, total = [], 0
    for rows, most in zip(parts, shared_out(held, count), strict=True):
        group = grouped(rows, int(most)) if most > 1 else np.zeros(len(rows), np.int64)
        groups.append(group + total)
        total += int(group.max()) + 1
    return unit_rows(class_sums(features, np.concatenate(groups), total)).astype(np.float32)
