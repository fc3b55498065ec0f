from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from edgeproof_configs.errors import DataError, UsageError
from edgeproof_configs.registry import build, component_class
from edgeproof_data.kinds.image_folder import ImageFolder
from edgeproof_data.sets import SPLITS, ImageSet

MakeImages = Callable[..., Path]


def source(root: Path, **settings: Any) -> ImageFolder:
    made = ImageFolder(ImageFolder.Config(root=str(root), **settings))
    made.prepare()
    return made


def named(images: ImageSet) -> dict[str, str]:
    return {path: images.class_names[label] for path, label in zip(images.paths, images.labels, strict=True)}


@pytest.fixture
def pets(make_images: MakeImages) -> Path:
    train = [f"train/{name}/{n}.jpg" for name in ("cat", "stop_sign") for n in range(10)]
    return make_images(*train, "test/cat/a.b.jpg", "test/cat/a.c.jpg", "test/stop_sign/deep/er/0.JPG")


def test_image_folder__labels_from_folders(pets: Path):
    data = source(pets)
    assert data.class_names == ("cat", "stop sign")
    assert data.unseen == ()
    assert data.label_file is None
    assert data.captions("train") is None
    assert named(data.split("test")) == {
        "test/cat/a.b.jpg": "cat",
        "test/cat/a.c.jpg": "cat",
        "test/stop_sign/deep/er/0.JPG": "stop sign",
    }
    assert [len(data.split(name)) for name in ("train", "val", "test")] == [18, 2, 3]
    assert set(data.split("val").labels) == {0, 1}
    assert not set(data.split("val").paths) & set(data.split("train").paths)


def test_image_folder__is_found_by_its_kind(pets: Path):
    config = component_class("data", "image_folder").Config(root=str(pets))  # pyright: ignore[reportAttributeAccessIssue]
    assert isinstance(build("data", config), ImageFolder)


def test_image_folder__val_is_a_folder(pets: Path, make_images: MakeImages):
    make_images("held/cat/1.png", root=pets)
    data = source(pets, val="held")
    assert data.split("val").paths == ("held/cat/1.png",)
    assert len(data.split("train")) == 20


def test_image_folder__seed_changes_the_validation_part(pets: Path):
    val = [source(pets, val=0.3, seed=seed).split("val").paths for seed in (0, 0, 1)]
    assert val[0] == val[1] != val[2]


def test_image_folder__unseen_classes_stay_in_test_only(pets: Path, make_images: MakeImages):
    make_images("test/owl/0.jpg", "train/owl/0.jpg", "val/cat/0.jpg", "val/owl/0.jpg", root=pets)
    (pets / "unseen.txt").write_text("owl\nstop_sign\n")
    for unseen in (("stop_sign", "owl"), "unseen.txt"):
        data = source(pets, unseen=unseen, val="val")
        assert set(data.unseen) == {"owl", "stop sign"}
        assert data.class_names == ("cat", "owl", "stop sign")
        assert set(named(data.split("train")).values()) == {"cat"}
        assert set(named(data.split("val")).values()) == {"cat"}
        assert set(named(data.split("test")).values()) == {"cat", "owl", "stop sign"}


def test_image_folder__labels_from_a_table(make_images: MakeImages):
    root = make_images("train/1.jpg", "train/2.jpg", "train/x/1.jpg", "test/1.jpg")
    rows = {"train/1.jpg": "cat", "train/2.jpg": "a_dog", "train/x/1.jpg": "cat", "test/1.jpg": "a dog"}
    (root / "labels.csv").write_text(
        "path,label\n" + "".join(f"{path},{name}\n" for path, name in rows.items())
    )
    data = source(root, labels="labels.csv", val=0.4)
    assert named(data.split("test")) == {"test/1.jpg": "a dog"}
    assert root / "labels.csv" in data.files()
    (root / "train/3.jpg").write_bytes((root / "train/1.jpg").read_bytes())
    with pytest.raises(DataError, match=r"1 image of train without a label: train/3.jpg"):
        source(root, labels="labels.csv")


def test_image_folder__table_names_missing_files(make_images: MakeImages):
    root = make_images("train/1.jpg", "test/1.jpg")
    (root / "labels.csv").write_text("path,label\ntrain/1.jpg,a\ntest/1.jpg,b\ntrain/9.jpg,a\n")
    with pytest.raises(DataError, match=r"1 image of this table missing: train/9.jpg"):
        source(root, labels="labels.csv")


def test_image_folder__without_labels(make_images: MakeImages):
    data = source(make_images(*(f"train/{n}.png" for n in range(10)), "test/0.png"), labels="none", val=0.2)
    assert data.class_names == ()
    assert data.split("train").labels.tolist() == [-1] * 8
    assert len(data.split("val")) == 2


def test_image_folder__unlabelled_train_with_labelled_test(make_images: MakeImages):
    root = make_images("train/1.png", "train/2.png", "val/a/1.png", "test/a/1.png", "test/b/1.png")
    data = source(root, val="val", unlabelled=("train",))
    assert data.split("train").labels.tolist() == [-1, -1]
    assert data.class_names == ("a", "b")
    assert data.split("test").labels.tolist() == [0, 1]


def test_image_folder__class_list_fixes_the_order(pets: Path):
    (pets / "classes.txt").write_text("stop_sign\nowl\ncat\n")
    data = source(pets, classes="classes.txt")
    assert data.class_names == ("stop sign", "owl", "cat")
    assert data.label_file == pets / "classes.txt"
    assert data.split("test").labels.tolist() == [2, 2, 0]
    (pets / "classes.txt").write_text("stop_sign\ncats\n")
    with pytest.raises(
        DataError, match=r"1 class of the images not in this list: 'cat' Did you mean 'cats'\?"
    ):
        source(pets, classes="classes.txt")


def test_image_folder__captions(pets: Path):
    with (pets / "captions.csv").open("w") as handle:
        handle.write("path,caption\n")
        handle.writelines(
            f"{p.relative_to(pets)},photo {p.name}\n"
            for p in pets.rglob("*")
            if p.is_file() and p.suffix != ".csv"
        )
    data = source(pets, captions="captions.csv")
    assert data.captions("test") == [["photo a.b.jpg"], ["photo a.c.jpg"], ["photo 0.JPG"]]
    (pets / "captions.csv").write_text("path,caption\ntest/cat/a.b.jpg,one\n")
    with pytest.raises(DataError, match="18 images of train without a caption"):
        source(pets, captions="captions.csv")


def test_image_folder__files_are_all_that_the_parts_depend_on(pets: Path):
    (pets / "unseen.txt").write_text("stop sign\n")
    data = source(pets, unseen="unseen.txt")
    assert len(data.files()) == 1 + 10 + 3
    assert all(file.is_file() for file in data.files())


@pytest.mark.parametrize(
    ("extra", "settings", "message"),
    [
        ((), {"train": "trains"}, "no such folder"),
        ((), {"val": "val"}, "no such folder"),
        (("train/loose.jpg",), {}, "1 image outside of a class folder: train/loose.jpg"),
        (("train/stop sign/1.jpg",), {}, "'stop sign' and 'stop_sign' are the same class 'stop sign'"),
        (("test/cats/1.jpg",), {}, "1 class of test that train lacks: cats"),
        ((), {"unseen": ("stop-sign",)}, r"1 class that no image has: 'stop-sign' Did you mean 'stop sign'"),
        ((), {"unseen": ("cat", "stop sign")}, "no image is left for train"),
        ((), {"train": "."}, r"3 images both in train and in test"),
        ((), {"unlabelled": ("train", "test")}, "no part has labels"),
        ((), {"labels": "table.csv"}, "'table.csv' does not exist"),
    ],
)
def test_image_folder__bad_data(
    pets: Path, make_images: MakeImages, extra: tuple[str, ...], settings: dict[str, Any], message: str
):
    make_images(*extra, root=pets)
    with pytest.raises(DataError, match=message) as caught:
        source(pets, **settings)
    assert caught.value.fix
    assert caught.value.where


def test_image_folder__empty_class_folder(pets: Path):
    (pets / "train" / "owl").mkdir()
    with pytest.raises(DataError, match="1 class folder without an image: owl"):
        source(pets)


def test_image_folder__one_class(make_images: MakeImages):
    root = make_images("train/cat/1.jpg", "train/cat/2.jpg", "test/cat/1.jpg")
    with pytest.raises(DataError, match="one class only: 'cat'"):
        source(root)
    assert len(source(root, labels="none").split("test")) == 1


def test_image_folder__root_missing_or_unset(tmp_path: Path):
    with pytest.raises(DataError, match="does not exist"):
        source(tmp_path / "gone")
    with pytest.raises(UsageError, match=r"data.root is not set(.|\n)*--set data.root="):
        ImageFolder(ImageFolder.Config()).prepare()


@pytest.mark.parametrize("part", ["/elsewhere", "../other"])
def test_image_folder__parts_lie_inside_the_root(pets: Path, part: str):
    with pytest.raises(UsageError, match=r"data\.train must lie inside data\.root"):
        source(pets, train=part)


@pytest.mark.parametrize(
    "settings",
    [
        {"labels": "none", "unseen": ("a",)},
        {"labels": "none", "classes": "c.txt"},
        {"unseen": ("a",), "unlabelled": ("train",)},
        {"val": "val", "seed": 3},
        {"val": 0.0},
        {"val": 1.0},
        {"roots": "x"},
    ],
)
def test_config__refuses_what_cannot_work(settings: dict[str, Any]):
    with pytest.raises(ValidationError):
        ImageFolder.Config(**settings)


def test_image_folder__real_photos(real_data: Path):
    data = source(real_data / "caltech_clip_b32", train="images/train", test="images/test")
    assert len(data.class_names) == 100
    assert "stop sign" in data.class_names
    assert len(data.split("train")) + len(data.split("val")) == 1649
    assert len(data.split("test")) == 2465
    assert len(data.split("val")) == 165
    assert np.bincount(data.split("train").labels).min() >= 5


def test_image_folder__test_is_a_fraction(make_images: MakeImages) -> None:
    root = make_images(*(f"{name}/{n}.png" for name in ("cat", "dog") for n in range(20)))
    data = source(root, train=".", test=0.2, val=0.1)
    assert [len(data.split(part)) for part in SPLITS] == [28, 4, 8]
    paths = [path for part in SPLITS for path in data.split(part).paths]
    assert len(set(paths)) == 40
    assert source(root, train=".", test=0.2, val=0.3).split("test").paths == data.split("test").paths
    assert source(root, train=".", test=0.2, val=0.1, seed=1).split("test").paths != data.split("test").paths
    held = source(root, train=".", test=0.2, val=0.1, unseen=("dog",))
    assert {path.split("/")[0] for path in held.split("train").paths} == {"cat"}
    assert sum(path.startswith("dog/") for path in held.split("test").paths) == 20
    bare = source(root, train=".", test=0.2, val=0.1, labels="none")
    assert (bare.split("test").labels == -1).all()
    assert len(bare.split("test")) == 8


def test_image_folder__fractions_leave_something_to_train_on(pets: Path) -> None:
    with pytest.raises(ValidationError, match="leave nothing to train on"):
        source(pets, val=0.5, test=0.5)


def test_image_folder__a_test_fraction_of_unlabelled_training_images_has_labels(pets: Path) -> None:
    data = source(pets, test=0.3, val=0.1, unlabelled=("train", "val"))
    assert (data.split("test").labels >= 0).all()
    assert (data.split("train").labels < 0).all()
    assert (data.split("val").labels < 0).all()
    data = source(pets, test=0.3, val=0.1, unlabelled=("test",))
    assert (data.split("test").labels < 0).all()
    assert (data.split("train").labels >= 0).all()
