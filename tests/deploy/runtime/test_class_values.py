from __future__ import annotations

import numpy as np
import pytest

from edgeproof_deploy.runtime.class_values import ClassValues


@pytest.mark.parametrize("seed", range(5))
def test_summed__as_the_matrix_product(seed: int) -> None:
    rng = np.random.default_rng(seed)
    classes, heights = rng.integers(0, 9, 30), rng.standard_normal(30)
    near = rng.random((7, 30)).astype(np.float32)
    for order in (np.arange(30), np.argsort(classes, kind="stable")):
        values = ClassValues(classes[order], heights[order], 11)
        assert values.shape == values.dense().shape == (30, 11)
        np.testing.assert_allclose(values.summed(near[:, order]), near[:, order] @ values.dense(), atol=1e-5)


def test_of__only_where_no_row_holds_two_numbers() -> None:
    dense = np.array([[0, 2, 0], [0, 0, 0], [-1, 0, 0]], np.float32)
    values = ClassValues.of(dense)
    assert values is not None
    assert np.array_equal(values.dense(), dense)
    assert ClassValues.of(dense + dense[:, ::-1]) is None


def test_take__columns_in_another_order() -> None:
    values = ClassValues(np.array([0, 2, 1, 2]), np.array([1.0, 2.0, 3.0, 4.0]), 3)
    kept, some = values.take([2, 0])
    assert kept.tolist() == [True, True, False, True]
    assert np.array_equal(some.dense(), values.dense()[kept][:, [2, 0]])


@pytest.mark.parametrize(
    ("classes", "heights", "words"),
    [
        (np.array([0, 3]), np.ones(2), "outside of the 3 labels"),
        (np.array([0, -1]), np.ones(2), "outside of the 3 labels"),
        (np.array([0, 1]), np.ones(3), r"heights has the shape \(3,\)"),
        (np.array([0.0, 1.0]), np.ones(2), "expected integers"),
        (np.array([[0, 1]]), np.ones(2), "expected integers"),
        (np.array([0, 1]), np.array([1, np.nan]), "heights holds NaN"),
    ],
)
def test_build__what_is_refused(classes: np.ndarray, heights: np.ndarray, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ClassValues(classes, heights, 3)
