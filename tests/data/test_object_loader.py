from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgeproof_configs.errors import UsageError
from edgeproof_configs.schema import AugmentConfig, SamplerConfig
from edgeproof_data.object_loader import ObjectLoader
from edgeproof_data.objects import ObjectSet
from edgeproof_data.sets import ImageSet, unlabelled
from edgeproof_deploy.runtime.preprocess import Preprocess, open_image

MakeImages = Callable[..., Path]
CLASSES, EACH = 3, 4
PREPROCESS = Preprocess(16, 18, "bilinear", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
PLAIN, CHANGED = AugmentConfig(), AugmentConfig(shift_pixels=2, flip=0.5)


@pytest.fixture
def objects(make_images: MakeImages) -> ObjectSet:
    """Return 3 classes of 4 objects; number i has 3 + i % 3 views."""
    views = tuple(
        tuple(f"c{number // EACH}/o{number:02d}/{view}.png" for view in range(3 + number % 3))
        for number in range(CLASSES * EACH)
    )
    root = make_images(*(file for files in views for file in files))
    paths = tuple(files[0].rsplit("/", 1)[0] for files in views)
    return ObjectSet(root, paths, np.arange(len(views)) // EACH, ("a", "b", "c"), views, 3)


@pytest.fixture
def photos(make_images: MakeImages, tmp_path: Path) -> ImageSet:
    names = [f"{number}.jpg" for number in range(10)]
    return unlabelled(make_images(*names, root=tmp_path / "others"), names)


def loader(objects: ObjectSet, augment: AugmentConfig = PLAIN, **settings: Any) -> Any:
    sampler = SamplerConfig(**{"views": 2} | settings.pop("sampler", {"classes": 2, "objects": 2}))
    known: dict[str, Any] = {"batch_size": 4, "seed": 1, "workers": 0}
    return ObjectLoader(objects, PREPROCESS, augment, sampler=sampler, **known | settings)


def same(left: list[Any], right: list[Any]) -> bool:
    keys = ("image", "label", "index", "views")
    return all(
        torch.equal(one.get(key, torch.zeros(0)), other.get(key, torch.ones(1)))
        for one, other in zip(left, right, strict=True)
        for key in keys
    )


def test_epoch__images_are_the_views_that_it_names(objects: ObjectSet) -> None:
    for batch in loader(objects).epoch(0):
        assert batch["image"].shape == (4, 2, 3, 16, 16)
        assert torch.equal(batch["label"], batch["index"] // EACH)
        for index, views, image in zip(batch["index"], batch["views"], batch["image"], strict=True):
            assert views[0] < views[1]
            files = [objects.root / objects.views[index][view] for view in views]
            expected = np.stack([PREPROCESS(open_image(file)) for file in files])
            assert np.array_equal(image.numpy(), expected)


def test_epoch__classes_and_objects_of_a_step(objects: ObjectSet) -> None:
    shown = loader(objects, sampler={"classes": 2, "objects": 3}, batch_size=6)
    assert shown.steps_per_epoch == 2
    for epoch in range(4):
        for batch in shown.epoch(epoch):
            assert sorted(batch["label"].bincount(minlength=CLASSES).tolist()) == [0, 3, 3]
            assert len(set(batch["index"].tolist())) == 6


def test_epoch__all_classes_and_objects_get_their_turn(objects: ObjectSet) -> None:
    shown = loader(objects)
    seen = torch.cat([batch["index"] for epoch in range(30) for batch in shown.epoch(epoch)])
    counts = seen.bincount(minlength=len(objects))
    assert counts.sum() == 30 * 3 * 4
    assert counts.min() > 15


def test_epoch__a_class_with_fewer_objects_shows_them_again_with_other_views(objects: ObjectSet) -> None:
    few = objects.subset([0, 1, 5, 6, 8, 9])
    shown = loader(few, sampler={"classes": 3, "objects": 3, "views": 1}, batch_size=9)
    drawn = set()
    for epoch in range(10):
        (batch,) = list(shown.epoch(epoch))
        assert batch["label"].bincount().tolist() == [3, 3, 3]
        twice = [index for index, count in enumerate(batch["index"].bincount().tolist()) if count == 2]
        assert len(twice) == 3
        drawn |= {len(set(batch["views"][batch["index"] == index].ravel().tolist())) for index in twice}
    assert drawn == {1, 2}


def test_epoch__visits_show_an_object_again_with_other_views(objects: ObjectSet) -> None:
    sampler = {"classes": 2, "objects": 1, "visits": 3, "views": 1}
    batch = next(loader(objects, sampler=sampler, batch_size=6).epoch(0))
    assert [len(set(three)) for three in batch["index"].view(2, 3).tolist()] == [1, 1]
    batches = [
        batch for epoch in range(5) for batch in loader(objects, sampler=sampler, batch_size=6).epoch(epoch)
    ]
    views = torch.cat([batch["views"].view(2, 3) for batch in batches])
    assert any(len(set(three)) > 1 for three in views.tolist())


def test_epoch__without_classes_every_object_once(objects: ObjectSet) -> None:
    shown = loader(objects, sampler={})
    batches = list(shown.epoch(3))
    assert sorted(torch.cat([batch["index"] for batch in batches]).tolist()) == list(range(12))
    twice = list(loader(objects, sampler={"visits": 2}).epoch(0))
    assert len(twice) == 6
    assert all(batch["index"][0] == batch["index"][1] != batch["index"][2] for batch in twice)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("sampler", [{}, {"classes": 2, "objects": 2, "photo_steps": 2}])
def test_epoch__from_the_middle_is_the_rest(
    objects: ObjectSet, photos: ImageSet, sampler: dict[str, Any], workers: int, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"sampler": sampler, "photos": photos}
    whole = list(loader(objects, CHANGED, **settings).epoch(5))
    stored = loader(objects, CHANGED, workers=workers, pixel_folder=tmp_path / "pixels", **settings)
    assert len(whole) == stored.steps_per_epoch
    for start in range(len(whole) + 1):
        assert same(list(stored.epoch(5, start_step=start)), whole[start:])
    other = list(loader(objects, CHANGED, seed=2, **settings).epoch(5))
    assert not same(whole, other)


@pytest.mark.parametrize("sampler", [{}, {"classes": 2, "objects": 1, "visits": 2}])
def test_epoch__ranks_share_the_steps_of_one_process(
    objects: ObjectSet, photos: ImageSet, sampler: dict[str, Any]
) -> None:
    settings: dict[str, Any] = {"sampler": sampler, "photos": photos}
    parts = [loader(objects, CHANGED, rank=rank, world=2, **settings) for rank in range(2)]
    if sampler:
        one = [
            batch
            for batch in loader(objects, CHANGED, sampler=sampler).epoch(1)
            if batch["views"].shape[1] == 2
        ]
    else:
        one = list(loader(objects, CHANGED, sampler=sampler, batch_size=8).epoch(1))
    assert len({part.steps_per_epoch for part in parts}) == 1
    both = [list(part.epoch(1)) for part in parts]
    mine, theirs = ([batch for batch in share if batch["views"].shape[1] == 2] for share in both)
    if sampler:
        # A group of classes goes to one process, whole.
        dealt = [batch for pair in zip(mine, theirs, strict=True) for batch in pair]
        assert same(dealt, one[: len(dealt)])
    else:
        for whole, first, second in zip(one, mine, theirs, strict=True):
            assert torch.equal(whole["index"], torch.stack([first["index"], second["index"]], 1).ravel())
    seen = [batch["index"] for part in parts for epoch in range(5) for batch in part.epoch(epoch)]
    assert (
        torch.cat([index for index in seen if len(index) == 8]).bincount()[len(objects) :].unique().numel()
        == 1
    )


def test_epoch__photos_follow_objects_in_turns(objects: ObjectSet, photos: ImageSet) -> None:
    shown = loader(objects, photos=photos, sampler={"classes": 2, "objects": 2, "photo_steps": 2})
    assert shown.steps_per_epoch == 9
    seen: list[int] = []
    for epoch in range(5):
        batches = list(shown.epoch(epoch))
        assert [len(batch["image"].shape) for batch in batches] == [5] * 9
        assert [batch["views"].shape[1] for batch in batches] == [2, 1, 1] * 3
        for batch in batches:
            if batch["views"].shape[1] == 1:
                assert batch["image"].shape == (8, 1, 3, 16, 16)
                assert (batch["label"] == -1).all()
                seen += (batch["index"] - len(objects)).tolist()
    counts = np.bincount(seen, minlength=10)
    assert counts.tolist() == [24] * 10
    first = next(batch for batch in shown.epoch(0) if batch["views"].shape[1] == 1)
    file = photos.file(int(first["index"][0]) - len(objects))
    assert np.array_equal(first["image"][0, 0].numpy(), PREPROCESS(open_image(file)))


def test_epoch__each_view_of_a_step_is_changed_in_its_own_way(make_images: MakeImages) -> None:
    root = make_images("one.png")
    files = (tuple(["one.png"] * 8),)
    alone = ObjectSet(root, ("o",), np.zeros(1, np.int64), ("a",), files)
    batch = next(loader(alone, CHANGED, sampler={"views": 8}, batch_size=1).epoch(0))
    assert len({view.numpy().tobytes() for view in batch["image"][0]}) > 3


def test_object_loader__too_few_views(objects: ObjectSet) -> None:
    with pytest.raises(UsageError, match=r"a step shows 4 views, and 4 of 12 .* fewer: c0/o00") as caught:
        loader(objects, sampler={"views": 4})
    assert caught.value.fix is not None
    assert "3 or less" in caught.value.fix


def test_object_sampling__cannot_pair(objects: ObjectSet) -> None:
    with pytest.raises(UsageError, match="a step shows 4 classes, and the training objects are of 3"):
        loader(objects, sampler={"classes": 4, "objects": 1})
    with pytest.raises(UsageError, match=r"1 of 3 classes have one training object.* stand: b"):
        loader(objects.subset([0, 1, 4, 8, 9]))
    loader(objects.subset([0, 1, 4, 8, 9]), sampler={"classes": 2, "objects": 1, "visits": 2})
    bare = ObjectSet(objects.root, objects.paths, np.full(12, -1), (), objects.views, 3)
    with pytest.raises(UsageError, match="12 of 12 training objects have none"):
        loader(bare)
    loader(bare, sampler={})
