from __future__ import annotations

import math
from typing import Any

import pytest

from edgeproof_train.patience import patience_ends, since_best


@pytest.mark.parametrize(
    ("figures", "since"),
    [
        ([], 0),
        ([0.5], 0),
        ([0.5, 0.5, 0.5], 2),
        ([0.5, 0.4, 0.6], 0),
        ([0.5, 0.7, 0.6, 0.7], 2),
        ([math.nan, 0.1, 0.05], 1),
        ([0.1, math.nan, math.nan], 2),
        ([-0.3, -0.2], 0),
    ],
)
def test_since_best__counts_from_the_first_of_the_best(figures: list[float], since: int) -> None:
    assert since_best(figures) == since


def history(*figures: float | None) -> list[dict[str, Any]]:
    """Return rows of epochs; those with None were not evaluated."""
    return [{"epoch": 1} | ({} if value is None else {"val": {"top1": value}}) for value in figures]


def test_patience_ends__when_that_many_evaluations_were_no_better() -> None:
    rows = history(0.3, 0.5, 0.4, 0.5, 0.2)
    assert [patience_ends(rows[:done], "top1", 3) for done in range(6)] == [False] * 5 + [True]
    assert patience_ends(rows, "top1", 4) is False
    assert patience_ends(rows, "top1", None) is False


def test_patience_ends__epochs_without_evaluation_do_not_count() -> None:
    assert not patience_ends(history(0.5, None, None, 0.4, None), "top1", 2)
    assert patience_ends(history(0.5, None, None, 0.4, None, 0.3), "top1", 2)
