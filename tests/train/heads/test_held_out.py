from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.train.heads.few_shot_case import few_shot_case

from edgeproof_configs.registry import component_class
from edgeproof_train.heads.fitting import fit_kind
from edgeproof_train.heads.held_out import can_hold_out, held_out, held_out_parts, parts_of

GDA: Any = component_class("head", "gda").__dict__["Config"]()


def test_parts_of__each_part_has_its_share_of_every_class() -> None:
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [9, 4, 3]))
    parts = parts_of(labels, 3, seed=1)
    for label, fewest, most in ((0, 3, 3), (1, 1, 2), (2, 1, 1)):
        counts = np.bincount(parts[labels == label], minlength=3)
        assert fewest <= counts.min() <= counts.max() <= most
    assert (parts != parts_of(labels, 3, seed=2)).any()


def test_held_out_parts__no_image_is_held_out_and_looked_at() -> None:
    evidence = few_shot_case()
    assert evidence.val is not None
    held = []
    for rest, rows in held_out_parts(evidence, 3, 0):
        assert rest.val is not None
        assert len(rest.val.labels) + len(rows.labels) == 30
        seen = {row.tobytes() for row in rest.val.features}
        assert not any(row.tobytes() in seen for row in rows.features)
        held += [row.tobytes() for row in rows.features]
    assert sorted(held) == sorted(row.tobytes() for row in evidence.val.features)


def test_held_out_parts__without_validation_the_views_of_a_photo_stay_together() -> None:
    evidence = replace(few_shot_case(shots=6, val=None), views=2)
    parts = list(held_out_parts(evidence, 5, 0))
    # Three photos of two views each: no more parts than photos of a class.
    assert len(parts) == 3
    for rest, rows in parts:
        assert rest.shots is not None
        assert np.bincount(rest.shots.labels).tolist() == [4] * 5
        assert np.bincount(rows.labels).tolist() == [1] * 5
        photos = rest.photos().features
        assert not any((photos == row).all(axis=1).any() for row in rows.features)


def test_can_hold_out__needs_validation_or_a_second_photo() -> None:
    assert can_hold_out(few_shot_case(shots=1))
    assert can_hold_out(few_shot_case(shots=2, val=None))
    assert not can_hold_out(few_shot_case(shots=1, val=None))
    with pytest.raises(ValueError, match="neither validation nor"):
        held_out(GDA, few_shot_case(shots=1, val=None), 2, 0)


def test_held_out__scores_are_those_of_heads_that_did_not_see_the_image() -> None:
    evidence = few_shot_case(val=None)
    found = held_out(GDA, evidence, 2, 0)
    rest, rows = next(held_out_parts(evidence, 2, 0))
    count = len(rows.labels)
    np.testing.assert_array_equal(found.labels[:count], rows.labels)
    np.testing.assert_array_equal(found.scores[:count], fit_kind(GDA, rest).head(rows.features))
    assert found.right.shape == (20,)
    assert found.right.mean() == (found.scores.argmax(axis=1) == found.labels).mean()
