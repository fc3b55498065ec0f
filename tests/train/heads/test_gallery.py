from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeproof_configs.errors import DataError
from edgeproof_data.sets import ImageSet
from edgeproof_deploy.runtime.gallery_head import GalleryHead
from edgeproof_train.heads.evidence import Evidence, evidence_of
from edgeproof_train.heads.fewer_objects import far_first
from edgeproof_train.heads.files import save_head
from edgeproof_train.heads.fitting import fit_kind
from edgeproof_train.heads.gallery import Gallery
from edgeproof_train.run_head import bound


def evidence(val: bool = True) -> Evidence:
    """Thirty objects of two classes, and a class of which there is none."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((2, 12))
    labels = np.resize([1, 0, 0], 30)
    rows = centres[labels] + 0.7 * rng.standard_normal((30, 12))
    asked: dict[str, Any] = {}
    if val:
        known = np.resize([0, 1], 40)
        asked = {
            "val_features": centres[known] + 0.7 * rng.standard_normal((40, 12)),
            "val_labels": known,
        }
    found = evidence_of(("cup", "cow", "dog"), features=rows, labels=labels, **asked)
    return replace(found, named=tuple(f"object {n}" for n in range(30)))


def fitted(given: Evidence, **settings: Any) -> tuple[GalleryHead, Any]:
    found = fit_kind(Gallery.Config(**settings), given)
    assert isinstance(found.head, GalleryHead)
    return found.head, found


def test_fit__answers_as_the_nearest_shot() -> None:
    given = evidence()
    head, found = fitted(given)
    assert given.shots is not None
    assert given.val is not None
    nearest = (given.val.features @ given.shots.features.T).argmax(axis=1)
    best = head.logits(given.val.features).argmax(axis=1)
    np.testing.assert_array_equal(best, given.shots.labels[nearest])
    assert head.nearest(given.val.features[:1], 1)[0][0].name == f"object {nearest[0]}"
    assert found.notes == ("scale chosen on validation", "no object of 1 classes")


def test_fit__the_scale_changes_no_answer() -> None:
    given = evidence()
    chosen, plain = fitted(given)[0], fitted(replace(given, val=None))[0]
    assert given.val is not None
    assert chosen.scale != plain.scale == 70.0
    rows = given.val.features
    np.testing.assert_array_equal(chosen.logits(rows).argmax(1), plain.logits(rows).argmax(1))


def test_fit__without_names_shots_are_numbered() -> None:
    head, _ = fitted(replace(evidence(), named=()))
    assert set(head.objects) == {f"shot {n}" for n in range(30)}


def test_fit__without_shots_says_so() -> None:
    with pytest.raises(DataError, match="gallery needs labelled images"):
        fit_kind(Gallery.Config(), replace(evidence(), shots=None))


def test_config__one_part_or_several() -> None:
    assert Gallery.Config.model_validate({"of": "test"}).of == ("test",)
    assert Gallery.Config.model_validate({"of": ["train", "gallery"]}).of == ("train", "gallery")
    with pytest.raises(ValueError, match="train"):
        Gallery.Config.model_validate({"of": "elsewhere"})


@pytest.mark.parametrize("half", [False, True])
def test_save_head__objects_that_lie_near_others_are_left_out_to_fit(half: bool, tmp_path: Any) -> None:
    head, _ = fitted(evidence())
    whole = save_head(head, tmp_path / "whole", half=half)[0].stat().st_size
    allowed = whole - 300
    file = save_head(head, tmp_path / "some", half=half, max_bytes=allowed)[0]
    from edgeproof_train.run_head import load_head

    again: Any = load_head(tmp_path / "some")
    assert allowed - 300 < file.stat().st_size <= allowed
    assert len(again.objects) < 30
    assert set(again.objects) == {head.objects[n] for n in far_first(head)[: len(again.objects)]}
    assert set(again.classes.tolist()) == {0, 1}
    with pytest.raises(DataError, match="not one object of each class fits"):
        save_head(head, tmp_path / "none", half=half, max_bytes=300)


def test_far_first__an_object_that_is_there_twice_comes_last() -> None:
    keys = np.array([[1, 0], [1, 0], [0, 1], [0.6, 0.8]], np.float32)
    head = GalleryHead(("a", "b"), keys, np.array([0, 0, 0, 1]), tuple("wxyz"))
    order = far_first(head).tolist()
    assert order[-1] in (0, 1)
    assert set(order[:2]) >= {3}


def test_bound__objects_of_the_gallery_do_not_find_themselves() -> None:
    head, _ = fitted(evidence())
    names = ("object 3", "somewhere else", "object 0")
    images = ImageSet(Path("/"), names, np.full(3, -1, np.int64))
    nothing: Any = None
    (found,) = bound([head], nothing, images)
    own = head.keys[[head.objects.index("object 3")] * 2 + [head.objects.index("object 0")]]
    told = [near[0].name for near in found.nearest(own, 1)]
    assert told[0] != "object 3"
    assert told[1] == "object 3"
    assert told[2] != "object 0"
    other = head.take([0, 1])
    assert bound([None, 7], nothing, images) == [None, 7]
    assert [near[0].name for near in other.nearest(own[:1], 1)] == ["object 3"]
