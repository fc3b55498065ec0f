from collections import Counter

import pytest

from edgeproof_data.solids.spec import COLOURS, PAIRS, SHAPES, SPLITS, SolidsSpec, pairs_in


def test_pairs__sixteen_are_held_out_and_every_word_is_seen_six_times():
    held_out = [pair for pair in PAIRS if pair.held_out]
    assert len(PAIRS) == 64
    assert Counter(pair.colour for pair in held_out) == dict.fromkeys(COLOURS, 2)
    assert Counter(pair.shape for pair in held_out) == dict.fromkeys(SHAPES, 2)


def test_pairs_in__held_out_pairs_are_in_test_only():
    assert set(pairs_in("test")) == set(PAIRS)
    assert pairs_in("train") == pairs_in("val")
    assert not any(pair.held_out for pair in pairs_in("train"))


def test_objects_in__no_object_is_in_two_splits():
    spec = SolidsSpec(objects=3, val_objects=2, test_objects=4)
    numbers = [number for split in SPLITS for number in spec.objects_in(split)]
    assert numbers == list(range(9))


def test_count__is_pairs_times_objects_times_views():
    spec = SolidsSpec(objects=3, views=10, test_objects=2, test_views=3)
    assert (spec.count("train"), spec.count("test")) == (48 * 30, 64 * 6)


def test_digest__changes_with_every_field():
    changed = [
        SolidsSpec(seed=1),
        SolidsSpec(views=9),
        SolidsSpec(tilt_degrees=41.0),
        SolidsSpec(image_size=64),
    ]
    digests = {spec.digest() for spec in [SolidsSpec(), *changed]}
    assert len(digests) == 5
    assert SolidsSpec().digest() == SolidsSpec().digest()


@pytest.mark.parametrize(
    ("field", "value"),
    [("views", 0), ("image_size", 8), ("tilt_degrees", 181.0), ("seed", -1), ("test_objects", 0)],
)
def test_solids_spec__refuses_what_is_out_of_range(field, value):
    with pytest.raises(ValueError, match=field):
        SolidsSpec(**{field: value})
