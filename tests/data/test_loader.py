from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgeproof_configs.errors import DataError, UsageError
from edgeproof_configs.schema import AugmentConfig
from edgeproof_data.folders import list_images
from edgeproof_data.loader import Batch, TrainLoader, eval_batches
from edgeproof_data.sets import ImageSet
from edgeproof_deploy.runtime.preprocess import Preprocess, open_image

MakeImages = Callable[..., Path]
COUNT = 23
PREPROCESS = Preprocess(16, 18, "bilinear", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
AUGMENTS = {
    "none": AugmentConfig(),
    "shift": AugmentConfig(shift_pixels=2, flip=0.5),
    "all": AugmentConfig(
        random_resized_crop=(0.4, 1.0), flip=0.5, color_jitter=0.3, rotate_degrees=10, erase=0.5
    ),
    "policy": AugmentConfig(flip=0.5, policy="rand_augment", cutout=0.25),
}


@pytest.fixture
def images(make_images: MakeImages) -> ImageSet:
    root = make_images(*(f"{number:02d}.{('jpg', 'png', 'webp')[number % 3]}" for number in range(COUNT)))
    paths = tuple(list_images(root))
    return ImageSet(root, paths, np.arange(COUNT) % 3, ("a", "b", "c"))


def loader(images: ImageSet, augment: str = "all", **settings: Any) -> TrainLoader:
    known = {"batch_size": 4, "seed": 1, "workers": 0, "pixel_folder": None}
    return TrainLoader(images, PREPROCESS, AUGMENTS[augment], **(known | settings))


def same(left: list[Batch], right: list[Batch]) -> bool:
    pairs = zip(left, right, strict=True)
    return all(
        torch.equal(one[key], other[key]) for one, other in pairs for key in ("image", "label", "index")
    )


def test_epoch__shapes_types_and_labels(images: ImageSet):
    batch = next(loader(images).epoch(0))
    assert batch["image"].shape == (4, 3, 16, 16)
    assert batch["image"].dtype == torch.float32
    assert batch["image"].is_contiguous()
    assert batch["label"].dtype == batch["index"].dtype == torch.int64
    assert torch.equal(batch["label"], batch["index"] % 3)


@pytest.mark.parametrize("augment", ["shift", "all", "policy"])
def test_epoch__same_for_any_workers_and_store(images: ImageSet, tmp_path: Path, augment: str):
    reference = list(loader(images, augment).epoch(3))
    for workers in (1, 3):
        assert same(list(loader(images, augment, workers=workers).epoch(3)), reference)
    stored = loader(images, augment, workers=2, pixel_folder=tmp_path / "pixels")
    assert list((tmp_path / "pixels").glob("pixels-*"))
    assert same(list(stored.epoch(3)), reference)
    assert same(list(stored.epoch(3)), reference)


def test_epoch__differs_between_epochs_and_seeds(images: ImageSet):
    first = torch.cat([batch["index"] for batch in loader(images).epoch(0)])
    second = torch.cat([batch["index"] for batch in loader(images).epoch(1)])
    other = torch.cat([batch["index"] for batch in loader(images, seed=2).epoch(0)])
    assert not torch.equal(first, second)
    assert not torch.equal(first, other)


def test_epoch__an_image_is_changed_anew_in_each_epoch(images: ImageSet):
    def views(epoch: int) -> dict[int, torch.Tensor]:
        batches = list(loader(images).epoch(epoch))
        return {int(i): x for batch in batches for i, x in zip(batch["index"], batch["image"], strict=True)}

    first, second = views(0), views(1)
    shared = first.keys() & second.keys()
    assert len(shared) > 10
    assert not any(torch.equal(first[index], second[index]) for index in shared)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(("augment", "balance"), [("all", "none"), ("policy", "classes")])
def test_epoch__from_the_middle_is_the_rest(images: ImageSet, workers: int, augment: str, balance: str):
    whole = list(loader(images, augment, balance=balance).epoch(5))
    for start in range(len(whole) + 1):
        rest = loader(images, augment, balance=balance, workers=workers).epoch(5, start_step=start)
        assert same(list(rest), whole[start:])


def test_epoch__drawing_elsewhere_changes_nothing_and_is_not_changed(images: ImageSet):
    reference = list(loader(images, "policy").epoch(0))
    torch.manual_seed(3)
    expected = [torch.rand(1) for _ in reference]
    torch.manual_seed(3)
    beside = [(batch, torch.rand(1)) for batch in loader(images, "policy", workers=2).epoch(0)]
    assert same([batch for batch, _ in beside], reference)
    assert [drawn for _, drawn in beside] == expected


def test_epoch__balanced_classes_are_equal_and_repeated_images_differ(images: ImageSet):
    rare = ImageSet(images.root, images.paths, np.minimum(np.arange(COUNT), 1), ("a", "b"))
    batches = list(loader(rare, "all", balance="classes", batch_size=COUNT).epoch(0))
    label, index = batches[0]["label"], batches[0]["index"]
    assert sorted(label.bincount().tolist()) == [11, 12]
    assert torch.equal(label, torch.from_numpy(rare.labels)[index])
    views = batches[0]["image"][index == 0]
    assert len(views) == 12
    assert len({view.numpy().tobytes() for view in views}) == 12


def test_epoch__balance_needs_labels(images: ImageSet):
    with pytest.raises(UsageError, match="23 of 23 training images have none"):
        loader(ImageSet(images.root, images.paths, np.full(COUNT, -1)), balance="classes")


def test_epoch__last_batch_only_if_it_is_the_only_one(images: ImageSet):
    assert [len(batch["index"]) for batch in loader(images).epoch(0)] == [4] * 5
    assert loader(images).steps_per_epoch == 5
    only = loader(images, batch_size=64)
    assert only.steps_per_epoch == 1
    assert [len(batch["index"]) for batch in only.epoch(0)] == [COUNT]
    assert loader(images, batch_size=22).steps_per_epoch == 1


def test_epoch__every_image_once_in_full_batches(images: ImageSet):
    seen = torch.cat([batch["index"] for batch in loader(images.subset(range(20))).epoch(0)])
    assert sorted(seen.tolist()) == list(range(20))


@pytest.mark.parametrize(("world", "batch_size"), [(2, 4), (3, 2), (4, 100)])
@pytest.mark.parametrize("balance", ["none", "classes"])
def test_epoch__ranks_share_each_step_of_one_process(
    images: ImageSet, world: int, batch_size: int, balance: str
):
    one = loader(images, batch_size=batch_size * world, balance=balance)
    ranks = [
        loader(images, batch_size=batch_size, rank=rank, world=world, balance=balance)
        for rank in range(world)
    ]
    assert {rank.steps_per_epoch for rank in ranks} == {one.steps_per_epoch}
    for whole, *parts in zip(one.epoch(2), *(rank.epoch(2) for rank in ranks), strict=True):
        assert max(len(part["index"]) for part in parts) - min(len(part["index"]) for part in parts) <= 1
        for rank, part in enumerate(parts):
            assert torch.equal(part["index"], whole["index"][rank::world])
            assert torch.equal(part["image"], whole["image"][rank::world])


def test_epoch__without_changes_is_what_the_runtime_sees(images: ImageSet, tmp_path: Path):
    for folder in (None, tmp_path / "pixels"):
        for batch in loader(images, "none", pixel_folder=folder).epoch(0):
            for index, image in zip(batch["index"].tolist(), batch["image"].numpy(), strict=True):
                assert np.array_equal(image, PREPROCESS(open_image(images.file(index))))


def test_train_loader__cannot_work(images: ImageSet):
    wrong: list[dict[str, Any]] = [
        {"rank": 2, "world": 2},
        {"batch_size": 0},
        {"rank": 0, "world": COUNT + 1},
    ]
    for settings in wrong:
        with pytest.raises(ValueError, match=r"rank must be|cannot make batches"):
            loader(images, **settings)


def test_train_loader__unreadable_image(images: ImageSet, tmp_path: Path):
    images.file(4).write_bytes(images.file(4).read_bytes()[:60])
    with pytest.raises(DataError) as caught:
        loader(images, pixel_folder=tmp_path / "pixels")
    assert caught.value.where == str(images.file(4))
    with pytest.raises(DataError, match="edgeproof data check"):
        list(loader(images.subset([4]), workers=2).epoch(0))


@pytest.mark.parametrize("workers", [0, 2])
def test_eval_batches__to_the_bit_what_the_runtime_computes(images: ImageSet, workers: int):
    batches = list(eval_batches(images, PREPROCESS, batch_size=5, workers=workers))
    assert [len(batch["index"]) for batch in batches] == [5, 5, 5, 5, 3]
    computed = torch.cat([batch["image"] for batch in batches]).numpy()
    expected = np.stack([PREPROCESS(open_image(images.file(index))) for index in range(COUNT)])
    assert np.array_equal(computed.view(np.uint32), expected.view(np.uint32))
    assert torch.equal(torch.cat([batch["index"] for batch in batches]), torch.arange(COUNT))
    assert torch.equal(torch.cat([batch["label"] for batch in batches]), torch.arange(COUNT) % 3)


def test_eval_batches__unreadable_image(images: ImageSet):
    images.file(7).write_bytes(b"")
    with pytest.raises(DataError, match="the file is empty") as caught:
        list(eval_batches(images, PREPROCESS, batch_size=5, workers=2))
    assert caught.value.where == str(images.file(7))
