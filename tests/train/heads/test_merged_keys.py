from __future__ import annotations

import numpy as np
import pytest
from tests.deploy.runtime.fitted_heads import make_head, names, unit

from edgeproof_deploy.runtime.cache_head import CacheHead
from edgeproof_deploy.runtime.class_values import ClassValues
from edgeproof_train.heads.merged_keys import grouped, merge_keys, shared_out


def near_pairs() -> CacheHead:
    """Four places for two labels, with two keys next to each other at each."""
    rng = np.random.default_rng(0)
    places = np.repeat(np.eye(4, 16), 2, axis=0)
    keys = unit(places + 0.01 * rng.standard_normal(places.shape))
    return CacheHead(names(2), keys, 1.5 * np.eye(2)[[0, 0, 0, 0, 1, 1, 1, 1]], 5.0, None)


def test_merge_keys__keys_next_to_each_other_become_one_with_the_votes_of_both() -> None:
    head = near_pairs()
    merged = merge_keys(head, 4)
    assert merged.keys.shape == (4, 16)
    assert isinstance(merged.values, ClassValues)
    assert merged.values.heights.tolist() == [3.0] * 4
    assert sorted(merged.values.classes.tolist()) == [0, 0, 1, 1]
    rows = unit(np.random.default_rng(1).standard_normal((20, 16)))
    np.testing.assert_allclose(merged(rows), head(rows), rtol=0.01)
    again = merge_keys(head, 4)
    assert np.array_equal(again.keys, merged.keys)


def test_merge_keys__to_one_a_label_is_the_mean_of_the_label() -> None:
    head = make_head("tip", 3, 8, shots=4)
    assert isinstance(head, CacheHead)
    assert isinstance(head.values, ClassValues)
    merged = merge_keys(head, 3)
    means = [head.keys[head.values.classes == label].mean(axis=0) for label in range(3)]
    np.testing.assert_allclose(merged.keys, means, atol=1e-6)
    assert (merged.beta, merged.base, merged.scale) == (head.beta, head.base, head.scale)


def test_merge_keys__enough_room_changes_nothing_but_the_order() -> None:
    head = near_pairs()
    rows = unit(np.random.default_rng(1).standard_normal((5, 16)))
    for count in (8, 100):
        np.testing.assert_allclose(merge_keys(head, count)(rows), head(rows), rtol=1e-5)


def test_merge_keys__equal_keys_and_heights_of_both_signs() -> None:
    values = ClassValues(np.zeros(4, int), np.array([1.0, -1.0, 2.0, 2.0]), 2)
    head = CacheHead(names(2), np.tile(np.eye(1, 3), (4, 1)), values, 1.0, None)
    merged = merge_keys(head, 2)
    np.testing.assert_allclose(merged(np.eye(3)), head(np.eye(3)), rtol=1e-6)
    assert len(merged.keys) == 1


def test_merge_keys__what_is_refused() -> None:
    proker = make_head("proker")
    assert isinstance(proker, CacheHead)
    with pytest.raises(ValueError, match="by fitting the head again"):
        merge_keys(proker, 5)
    with pytest.raises(ValueError, match="1 keys cannot be shared out among 2 labels"):
        merge_keys(near_pairs(), 1)


@pytest.mark.parametrize("seed", range(20))
def test_shared_out__one_at_least_and_not_more_than_there_are(seed: int) -> None:
    rng = np.random.default_rng(seed)
    held = rng.integers(1, 30, rng.integers(1, 12))
    count = int(rng.integers(len(held), held.sum() + 5))
    found = shared_out(held, count)
    assert found.sum() == min(count, held.sum())
    assert (found >= 1).all()
    assert (found <= held).all()


def test_grouped__clusters_that_lie_apart() -> None:
    rng = np.random.default_rng(0)
    rows = np.concatenate([10 * np.eye(3)[n] + 0.1 * rng.standard_normal((5, 3)) for n in range(3)])
    found = grouped(rows, 3)
    assert [len(set(found[5 * n : 5 * n + 5])) for n in range(3)] == [1, 1, 1]
    assert sorted(set(found.tolist())) == [0, 1, 2]
    assert grouped(rows, 99).tolist() == list(range(15))
    assert set(grouped(np.ones((4, 2)), 3).tolist()) == {0}
