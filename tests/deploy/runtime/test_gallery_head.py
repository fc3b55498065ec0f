from __future__ import annotations

import numpy as np
import pytest
from tests.deploy.runtime.fitted_heads import make_head, unit

from edgeproof_deploy.runtime.errors import BundleError, LabelError
from edgeproof_deploy.runtime.gallery_head import GalleryHead
from edgeproof_deploy.runtime.head import parse_head
from edgeproof_train.heads.files import head_bytes, labels_text

RNG = np.random.default_rng(3)
KEYS = np.array([[1, 0], [0, 1], [0.6, 0.8]], np.float32)


def gallery(scale: float = 10.0) -> GalleryHead:
    """Two cows and a cup; of `dog` there is no object."""
    return GalleryHead(("cup", "cow", "dog"), KEYS, np.array([1, 0, 1]), ("cow/1", "cup/1", "cow/2"), scale)


def test_logits__the_best_cosine_of_each_class_by_hand() -> None:
    found = gallery().logits(np.array([[3.0, 0.0], [0.0, 0.5], [-1.0, 0.0]]))
    np.testing.assert_allclose(found, [[0, 10, -10], [10, 8, -10], [0, -6, -10]], atol=1e-6)


def test_logits__a_table_of_many_objects_in_blocks_is_the_plain_one() -> None:
    keys, owners = unit(RNG.standard_normal((5000, 8))), RNG.integers(0, 7, 5000)
    head = GalleryHead(tuple("abcdefg"), keys, owners, tuple(map(str, range(5000))))
    rows = RNG.standard_normal((1000, 8))
    near = unit(rows) @ keys.T
    expected = np.stack([near[:, owners == label].max(axis=1) for label in range(7)], axis=1)
    np.testing.assert_allclose(head.logits(rows), expected, atol=1e-6)


def test_nearest__names_classes_and_cosines_nearest_first() -> None:
    (found,) = gallery().nearest(np.array([[2.0, 0.0]]), 2)
    assert [(one.name, one.label) for one in found] == [("cow/1", "cow"), ("cow/2", "cow")]
    assert [one.cosine for one in found] == pytest.approx([1.0, 0.6])
    assert len(gallery().nearest(np.ones((1, 2)), 9)[0]) == 3
    with pytest.raises(ValueError, match="at least 1"):
        gallery().nearest(np.ones((1, 2)), 0)


def test_without_own__an_object_of_the_gallery_does_not_find_itself() -> None:
    bound = gallery(1.0).without_own(["cow/1", "a new one", "cup/1"])
    rows = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    np.testing.assert_allclose(bound.logits(rows), [[0, 0.6, -1], [0, 1, -1], [-1, 0.8, -1]], atol=1e-6)
    assert [one.name for one in bound.nearest(rows)[0]] == ["cow/2", "cup/1"]
    np.testing.assert_array_equal(bound.at(np.array([2])).logits(rows[2:]), bound.logits(rows)[2:])
    with pytest.raises(ValueError, match="bound to 3 objects"):
        bound.logits(rows[:2])


def test_take__objects_of_these_labels_alone() -> None:
    some = gallery().take([2, 1])
    assert (some.labels, some.objects) == (("dog", "cow"), ("cow/1", "cow/2"))
    with pytest.raises(LabelError, match="no object of the gallery is of dog"):
        gallery().take([2])


@pytest.mark.parametrize("half", [False, True])
def test_parse_head__what_was_stored(half: bool) -> None:
    head = make_head("gallery", 4, 16)
    assert isinstance(head, GalleryHead)
    again = parse_head(head_bytes(head, half=half), labels_text(head).encode())
    assert isinstance(again, GalleryHead)
    rows = RNG.standard_normal((5, 16))
    assert again.objects == head.objects
    np.testing.assert_allclose(again.logits(rows), head.logits(rows), atol=0.02 if half else 0)
    np.testing.assert_allclose(np.linalg.norm(again.keys, axis=1), 1, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"keys": 2 * KEYS}, "one unit row for each object"),
        ({"keys": KEYS[:2]}, "has the shape"),
        ({"classes": np.array([0, 1, 3])}, "outside of the 3 labels"),
        ({"classes": np.array([0, 1])}, "expected integers"),
        ({"objects": np.frombuffer(b"a\nb\nb", np.uint8)}, "there twice"),
        ({"objects": np.frombuffer(b"a\n\xff\nb", np.uint8)}, "utf-8"),
        ({"objects": np.zeros(3, np.float32)}, "expected bytes"),
        ({"scale": np.array(0.0)}, "above 0"),
        ({"more": np.zeros(1)}, "has an array 'more'"),
    ],
)
def test_parse_head__refuses_what_is_no_gallery(change: dict[str, np.ndarray], words: str) -> None:
    from edgeproof_train.heads.files import safetensors_bytes

    data = safetensors_bytes({**gallery().arrays(), **change}, gallery().described())
    with pytest.raises(BundleError, match=words):
        parse_head(data, labels_text(gallery()).encode())
