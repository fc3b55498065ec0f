from __future__ import annotations

import numpy as np
import pytest
from tests.deploy.runtime.fitted_heads import names

from edgeproof_deploy.runtime.linear_head import LinearHead


def test_logits__by_hand() -> None:
    """e / |e| = (0.6, 0.8), so the products are 0.6 and 1.6; the scale is not on the bias."""
    head = LinearHead(names(2), np.array([[1, 0], [0, 2]]), np.array([0.5, -1]), 10.0)
    np.testing.assert_allclose(head(np.array([[3.0, 4.0]])), [[6.5, 15.0]], rtol=1e-6)
    assert head(np.zeros((1, 2))).tolist() == [[0.5, -1.0]]


def test_logits__nothing_of_the_head_changes() -> None:
    head = LinearHead(names(2), np.eye(2), np.ones(2))
    first = head(np.ones((1, 2)))
    first += 7
    assert head(np.ones((1, 2))).max() < 2
    assert head.bias is not None
    assert head.bias.tolist() == [1, 1]


def test_arrays__are_not_those_of_a_zero_shot_head() -> None:
    """A reader that knows zero-shot heads alone must refuse the file, or it would leave out the bias."""
    assert set(LinearHead(names(2), np.eye(2), np.ones(2)).arrays()) == {"weight", "bias", "scale"}
    assert set(LinearHead(names(2), np.eye(2)).arrays()) == {"weight", "scale"}


@pytest.mark.parametrize(
    ("weight", "bias", "scale", "words"),
    [
        (np.eye(3), None, 1.0, r"weight has the shape \(3, 3\), expected \(2, any\)"),
        (np.ones(2), None, 1.0, "weight has the shape"),
        (np.eye(2), np.ones(3), 1.0, r"bias has the shape \(3,\)"),
        (np.eye(2) * np.nan, None, 1.0, "NaN"),
        (np.eye(2), np.array([np.inf, 0]), 1.0, "bias holds NaN"),
        (np.eye(2), None, np.nan, "scale is nan"),
    ],
)
def test_build__what_is_refused(
    weight: np.ndarray, bias: np.ndarray | None, scale: float, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        LinearHead(names(2), weight, bias, scale)
