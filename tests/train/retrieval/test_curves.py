from __future__ import annotations

import numpy as np
import pytest

from edgeproof_train.retrieval.curves import FULL, pr_curve
from edgeproof_train.retrieval.figures import retrieval_figures


def on_a_line(relevant: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    angles = np.linspace(0.1, 1.4, len(relevant))
    gallery = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return np.array([[1.0, 0.0]]), np.array([1]), gallery, np.array([int(one) for one in relevant])


def test_pr_curve__by_hand() -> None:
    # Ranks 1, 4, 5: precision 1 up to a recall of 1/3, then 3/5, which comes later and is larger than 2/4.
    recall, precision = pr_curve(*on_a_line("1001100"))
    np.testing.assert_allclose(recall, np.arange(11) / 10)
    np.testing.assert_allclose(precision, [1] * 4 + [0.6] * 7)


def test_pr_curve__a_recall_of_three_tenths_is_reached_by_three_of_ten() -> None:
    ranked = "111" + "0" * 30 + "1111111"
    _, precision = pr_curve(*on_a_line(ranked))
    np.testing.assert_allclose(precision[:4], 1)
    np.testing.assert_allclose(precision[4:], 10 / 40)


@pytest.mark.parametrize("definition", ["standard", "osmn40"])
def test_pr_curve__a_finer_line_encloses_the_interpolated_map(definition: str) -> None:
    random = np.random.default_rng(0)
    labels = np.arange(120) % 3
    rows = np.eye(3, 8)[labels] + random.normal(size=(120, 8))
    given = rows, labels, rows, labels, np.arange(120)
    recall, precision = pr_curve(*given, points=FULL)  # pyright: ignore[reportArgumentType]
    assert (np.diff(precision) <= 1e-12).all()
    area = retrieval_figures(*given, definition="osmn40")["map"]  # pyright: ignore[reportArgumentType]
    assert float(np.trapezoid(precision, recall)) == pytest.approx(area, abs=0.01)
    eleven = pr_curve(*given, definition)[1]  # pyright: ignore[reportArgumentType]
    np.testing.assert_allclose(eleven, precision[::10])


def test_pr_curve__queries_without_anything_relevant() -> None:
    queries, _, gallery, labels = on_a_line("1001100")
    two = np.repeat(queries, 2, axis=0), np.array([1, 5]), gallery, labels
    assert pr_curve(*two)[1][0] == 1
    assert pr_curve(*two, definition="osmn40")[1][0] == 0.5
    with pytest.raises(ValueError, match="at least two points"):
        pr_curve(*two, points=1)
