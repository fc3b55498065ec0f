from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from tests.deploy.runtime.fitted_heads import make_head, names

from edgeproof_deploy.runtime.ensemble_head import EnsembleHead, z_scores
from edgeproof_deploy.runtime.head import ClassifierHead
from edgeproof_deploy.runtime.linear_head import LinearHead

SCORES = ClassifierHead(names(2), (0, 1), 2)
TURNED = ClassifierHead(names(2), (1, 0), 2)


def test_logits__a_convex_sum_of_probabilities_by_hand() -> None:
    """One member says 1/4 and 3/4, the other the reverse; weights 1 and 3 of 4."""
    head = EnsembleHead(names(2), (SCORES, TURNED), np.array([0.25, 0.75]), "probabilities")
    shares = head.probabilities(np.array([[0.0, math.log(3)]]))
    np.testing.assert_allclose(shares, [[0.25 * 0.25 + 0.75 * 0.75, 0.25 * 0.75 + 0.75 * 0.25]], rtol=1e-6)


def test_logits__weights_need_not_add_up_to_one() -> None:
    rows = np.random.default_rng(0).standard_normal((4, 2))
    found = [
        EnsembleHead(names(2), (SCORES, TURNED), weights, "probabilities").probabilities(rows)
        for weights in (np.array([1, 3]), np.array([0.25, 0.75]))
    ]
    np.testing.assert_allclose(found[0], found[1], rtol=1e-5)


def test_logits__z_scores_by_hand() -> None:
    """(0, 2) is (-1, 1) when standardised."""
    head = EnsembleHead(names(2), (SCORES, TURNED), np.array([3.0, 1.0]), "z_scores")
    np.testing.assert_allclose(head(np.array([[0.0, 2.0], [5.0, 5.0]])), [[-2.0, 2.0], [0.0, 0.0]], atol=1e-6)


def test_logits__a_probability_that_is_nothing_in_float32_is_still_told_apart() -> None:
    head = EnsembleHead(names(3), (ClassifierHead(names(3), (0, 1, 2), 3),), np.ones(1), "probabilities")
    np.testing.assert_allclose(head(np.array([[0.0, -500.0, -900.0]])), [[0.0, -500.0, -900.0]])


def test_z_scores__huge_and_equal_logits() -> None:
    found = z_scores(np.array([[1e38, -1e38], [0.1, 0.1]], np.float32))
    np.testing.assert_allclose(found, [[1, -1], [0, 0]], atol=1e-9)


def test_take__members_decide_between_the_labels_that_stay_alone() -> None:
    head = make_head("ensemble")
    assert isinstance(head, EnsembleHead)
    rows, kept = np.random.default_rng(0).standard_normal((4, 8)), [4, 2]
    expected = sum(
        weight * member.take(kept).probabilities(rows)
        for member, weight in zip(head.members, head.weights, strict=True)
    )
    np.testing.assert_allclose(head.take(kept).probabilities(rows), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"members": (), "weights": np.zeros(0)}, "an ensemble needs members"),
        ({"weights": np.array([1.0])}, r"weights has the shape \(1,\), expected \(2\)"),
        ({"weights": np.array([2.0, -1.0])}, "none is below 0"),
        ({"weights": np.zeros(2)}, "none is below 0 and one above"),
        ({"weights": np.array([1.0, np.nan])}, "NaN"),
        ({"members": (SCORES, LinearHead(names(2), np.eye(2, 5)))}, "other labels or embeddings"),
        ({"members": (SCORES, ClassifierHead(("a", "b"), (0, 1), 2))}, "other labels or embeddings"),
        ({"of": "votes"}, "an ensemble of 'votes'"),
    ],
)
def test_build__what_is_refused(change: dict[str, Any], words: str) -> None:
    whole: dict[str, Any] = {"labels": names(2), "members": (SCORES, TURNED), "weights": np.ones(2)}
    whole["of"] = "z_scores"
    EnsembleHead(**whole)
    with pytest.raises(ValueError, match=words):
        EnsembleHead(**whole | change)
