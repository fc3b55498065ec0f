from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from tests.deploy.runtime.fitted_heads import make_head, names, unit

from edgeproof_deploy.runtime import cache_head
from edgeproof_deploy.runtime.cache_head import CacheHead
from edgeproof_deploy.runtime.class_values import ClassValues
from edgeproof_deploy.runtime.head_form import softmax
from edgeproof_deploy.runtime.linear_head import LinearHead


def test_logits__by_hand() -> None:
    """The key at a right angle has affinity exp(-2), the one in the same direction 1."""
    base = LinearHead(names(2), np.eye(2), np.array([1.0, 0.0]))
    head = CacheHead(names(2), np.eye(2), np.array([[3, 0], [0, 5]]), 2.0, base, scale=10.0)
    expected = [10 * (2 + 3), 10 * (0 + 5 * math.exp(-2))]
    np.testing.assert_allclose(head(np.array([[7.0, 0.0]])), [expected], rtol=1e-6)


def test_logits__a_base_that_counts_by_its_probabilities() -> None:
    base = LinearHead(names(2), np.eye(2))
    head = CacheHead(names(2), np.eye(2)[:1], np.array([[0.5, -0.5]]), 1.0, base, "probabilities", 2.0)
    share = math.e / (math.e + 1)
    np.testing.assert_allclose(
        head(np.array([[2.0, 0.0]])), [[2 * share + 1, 2 * (1 - share) - 1]], rtol=1e-6
    )


def test_logits__without_keys_the_base() -> None:
    base = make_head("linear")
    assert isinstance(base, LinearHead)
    for values in (np.zeros((0, 5)), ClassValues(np.zeros(0, np.int32), np.zeros(0), 5)):
        head = CacheHead(names(5), np.zeros((0, 8)), values, 1.0, base)
        rows = np.random.default_rng(0).standard_normal((3, 8))
        np.testing.assert_allclose(head(rows), base(rows), rtol=1e-6)


@pytest.mark.parametrize("form", ["tip", "proker"])
def test_logits__in_blocks_the_same(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    head = make_head(form)
    rows = np.random.default_rng(0).standard_normal((23, 8))
    whole = head(rows)
    monkeypatch.setattr(cache_head, "LARGEST_BLOCK", 4 * 15)
    np.testing.assert_allclose(head(rows), whole, rtol=1e-5, atol=1e-5)
    monkeypatch.setattr(cache_head, "LARGEST_BLOCK", 1)
    np.testing.assert_allclose(head(rows), whole, rtol=1e-5, atol=1e-5)


def test_values__votes_are_kept_as_classes_and_say_the_same_as_a_matrix() -> None:
    head = make_head("tip")
    assert isinstance(head, CacheHead)
    assert isinstance(head.values, ClassValues)
    other = CacheHead(head.labels, head.keys, head.values.dense() + 1e-12, head.beta, head.base)
    assert isinstance(other.values, np.ndarray)
    rows = np.random.default_rng(0).standard_normal((4, 8))
    np.testing.assert_allclose(head(rows), other(rows), rtol=1e-5)


def test_take__leaves_out_keys_that_have_no_vote_any_more() -> None:
    head = make_head("tip")
    some = head.take([2, 4])
    assert isinstance(head, CacheHead)
    assert isinstance(some, CacheHead)
    assert (len(head.keys), len(some.keys)) == (15, 6)


def test_take__probabilities_of_the_base_are_shared_out_among_the_labels_that_stay() -> None:
    head = make_head("proker")
    assert isinstance(head, CacheHead)
    assert head.base is not None
    assert isinstance(head.values, np.ndarray)
    rows, kept = unit(np.random.default_rng(0).standard_normal((6, 8))), [3, 1]
    shares = head.base.probabilities(rows)[:, kept]
    votes = np.exp(-head.beta * (1 - rows @ head.keys.T)) @ head.values[:, kept]
    expected = head.scale * (shares / shares.sum(axis=1, keepdims=True) + votes)
    np.testing.assert_allclose(head.take(kept)(rows), expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(head.take(kept).probabilities(rows), softmax(expected), atol=1e-5)


KEYS, VALUES = np.eye(3, 4), np.eye(3)[:, :2]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"values": np.ones((2, 2))}, r"values has the shape \(2, 2\), expected \(3, 2\)"),
        ({"values": np.ones((3, 3))}, r"expected \(3, 2\)"),
        ({"values": ClassValues(np.zeros(2, int), np.ones(2), 2)}, "3 keys, 2 labels"),
        ({"values": ClassValues(np.zeros(3, int), np.ones(3), 4)}, "3 keys, 2 labels"),
        ({"keys": np.ones(3)}, "keys has the shape"),
        ({"keys": np.eye(3, 4) * np.nan}, "keys holds NaN"),
        ({"keys": np.eye(3, 4) * 40}, "beta 1 and keys of length 40: the votes may overflow"),
        ({"beta": -1.0}, "beta -1"),
        ({"beta": np.nan}, "beta is nan"),
        ({"scale": np.inf}, "scale is inf"),
        ({"base": LinearHead(names(2), np.eye(2))}, "the base is for other labels or embeddings"),
        ({"base": LinearHead(("a", "b"), np.eye(2, 4))}, "the base is for other labels"),
        ({"base_form": "shares"}, "base_form is 'shares'"),
    ],
)
def test_build__what_is_refused(change: dict[str, Any], words: str) -> None:
    whole: dict[str, Any] = {"labels": names(2), "keys": KEYS, "values": VALUES, "beta": 1.0, "base": None}
    CacheHead(**whole)
    with pytest.raises(ValueError, match=words):
        CacheHead(**whole | change)
