from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from pydantic import ValidationError

from edgeproof_data.kinds.solid_views import SolidViews
from edgeproof_data.sets import SPLITS
from edgeproof_data.solids.spec import PAIRS

TINY: dict[str, Any] = {"image_size": 16, "objects": 1, "test_objects": 2, "rendered_views": 2}


@pytest.fixture(scope="module")
def solids() -> SolidViews:
    made = SolidViews(SolidViews.Config(**TINY))
    made.prepare()
    return made


def test_solid_views__objects_and_unseen_pairs(solids: SolidViews) -> None:
    assert [len(solids.split(name)) for name in SPLITS] == [48, 96, 128]
    assert solids.class_names == tuple(pair.name for pair in PAIRS)
    held_out = {solids.class_names.index(name) for name in solids.unseen}
    assert len(held_out) == 16
    assert not held_out & {*solids.split("train").labels, *solids.split("val").labels}
    assert set(Counter(solids.split("test").labels.tolist()).values()) == {2}
    assert solids.gallery() is None


def test_solid_views__views_are_of_one_object(solids: SolidViews) -> None:
    train = solids.split("train")
    assert train.view_count == 2
    for path, views, label in zip(train.paths, train.views, train.labels, strict=True):
        assert views == (f"{path}_v00.png", f"{path}_v01.png")
        assert train.class_names[label].replace(" ", "_") == path.split("/")[1]
    assert {train.root / view for views in train.views for view in views} <= set(solids.files())


def test_solid_views__captions_of_each_object(solids: SolidViews) -> None:
    captions, objects = solids.captions("test"), solids.split("test")
    assert captions is not None
    assert len(captions) == len(objects)
    names = [objects.class_names[label] for label in objects.labels]
    assert all(any(name in text for text in said) for name, said in zip(names, captions, strict=True))


def test_solid_views__evaluation_shows_fewer(solids: SolidViews) -> None:
    fewer = SolidViews(SolidViews.Config(**TINY, views=1))
    assert fewer.root == solids.root
    assert fewer.split("test").view_count == 1


@pytest.mark.parametrize("settings", [{"views": 9}, {"val_objects": 1}, {"test_objects": 1}])
def test_config__refuses_what_cannot_be_searched(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        SolidViews.Config(**settings)
