"""When to stop a training that no longer gets better."""

from __future__ import annotations

import math
from collections.abc import Sequence

from edgeproof_train.journal import Row


def patience_ends(history: Sequence[Row], select: str, patience: int | None) -> bool:
    """Return whether the last `patience` evaluations have all been no better than one before them.

    A function of the rows that a checkpoint holds, so a resumed training stops where an uninterrupted one
    would have.

    Args:
        history: one row for each epoch so far; those that were evaluated hold their figures under `val`.
        select: the figure that chooses the best epoch; larger is better.
        patience: evaluations; None never ends.
    """
    if patience is None:
        return False
    return since_best([row["val"][select] for row in history if "val" in row]) >= patience


def since_best(figures: Sequence[float]) -> int:
    """Return how many evaluations followed the best one, the earliest of several that are equal.

    One that is NaN is never better than another.
    """
    best, since = -math.inf, 0
    for figure in figures:
        best, since = (figure, 0) if figure > best else (best, since + 1)
    return since
