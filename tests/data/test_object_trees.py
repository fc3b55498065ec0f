from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from edgeproof_configs.errors import DataError
from edgeproof_data.object_trees import find_objects, layout_of, natural_order

MakeImages = Callable[..., Path]


def told(root: Path, **settings: object) -> dict[str, tuple[str, str | None, int]]:
    found = find_objects(root, **settings)  # pyright: ignore[reportArgumentType]
    return {item.path: (item.label, item.part, len(item.views)) for item in found.objects}


def test_natural_order__counts_by_value() -> None:
    assert natural_order(["v10.png", "v2.png", "v1.png", "a.png"]) == ("a.png", "v1.png", "v2.png", "v10.png")
    assert natural_order(["066-027.jpg", "000-000.jpg"]) == ("000-000.jpg", "066-027.jpg")


@pytest.mark.parametrize(
    ("files", "layout"),
    [
        (["cup/cup1/0.png"], "folders"),
        (["train/cup/cup1/0.png", "test/cup/cup2/0.png"], "folders"),
        (["cup/train/cup_1/0.png", "cup/test/cup_2/0.png"], "modelnet"),
        (["cup/train/cup_0001_001.jpg"], "modelnet"),
        (["train/cup/a/0.png", "query/cup/b/0.png", "target/cup/c/0.png"], "open_set"),
        (["DS/train/cup/a/0.png", "DU/retrieval/jug/b/0.png"], "seen_unseen"),
        (["DS/train/cup/a/0.png", "DS/retrieval/cup/b/0.png"], "seen_unseen"),
    ],
)
def test_layout_of__looks(files: list[str], layout: str) -> None:
    assert layout_of(files) == layout


def test_find_objects__class_object_view(make_images: MakeImages) -> None:
    root = make_images("stop_sign/s1/1.png", "stop_sign/s1/deep/2.png", "cup/c1/10.png", "cup/c1/9.png")
    assert told(root) == {"cup/c1": ("cup", None, 2), "stop_sign/s1": ("stop sign", None, 2)}
    assert find_objects(root).objects[0].views == ("cup/c1/9.png", "cup/c1/10.png")


def test_find_objects__parts_first(make_images: MakeImages) -> None:
    root = make_images("train/cup/c1/0.png", "test/cup/c2/0.png", "gallery/cup/c3/0.png", "val/cup/c4/0.png")
    assert {path: part for path, (_, part, _) in told(root).items()} == {
        "train/cup/c1": "train",
        "test/cup/c2": "test",
        "gallery/cup/c3": "gallery",
        "val/cup/c4": "val",
    }


def test_find_objects__modelnet_with_and_without_object_folders(make_images: MakeImages) -> None:
    root = make_images(
        "cup/train/cup_0001/0.png",
        "cup/train/cup_0001/1.png",
        "bathtub/test/bathtub_0107.obj.shaded_v001.png",
        "bathtub/test/bathtub_0107.obj.shaded_v012.png",
        "bathtub/train/bathtub_0002_003.jpg",
    )
    assert told(root) == {
        "bathtub/test/bathtub_0107.obj.shaded": ("bathtub", "test", 2),
        "bathtub/train/bathtub_0002": ("bathtub", "train", 1),
        "cup/train/cup_0001": ("cup", "train", 2),
    }


def test_find_objects__open_set_with_label_lists(make_images: MakeImages) -> None:
    root = make_images(
        "train/cup/a/image/h_0.png",
        "query/b/image/h_0.png",
        "target/c/image/h_0.png",
        "target/d/image/h_0.png",
    )
    (root / "query_label.txt").write_text("b,31\n")
    (root / "target_label.txt").write_text("c,31\nd,night_stand\n\n")
    assert told(root) == {
        "query/b": ("31", "test", 1),
        "target/c": ("31", "gallery", 1),
        "target/d": ("night stand", "gallery", 1),
        "train/cup/a": ("cup", "train", 1),
    }
    assert find_objects(root).held_out == ("31", "night stand")
    (root / "target_label.txt").write_text("c,31\n")
    with pytest.raises(DataError, match="the object 'd' has no label"):
        find_objects(root)
    (root / "target_label.txt").write_text("c 31\n")
    with pytest.raises(DataError, match="a line is not `object,label`") as caught:
        find_objects(root)
    assert str(caught.value.where).endswith("target_label.txt:1")


def test_find_objects__open_set_with_class_folders(make_images: MakeImages) -> None:
    root = make_images("train/cup/a/0.png", "query/jug/b/0.png", "target/jug/c/0.png")
    assert told(root)["target/jug/c"] == ("jug", "gallery", 1)
    assert find_objects(root).held_out == ("jug",)


def test_find_objects__seen_and_unseen(make_images: MakeImages) -> None:
    root = make_images(
        "DS/train/cup/a/0.png", "DS/retrieval/cup/b/0.png", "DU/retrieval/jug/c/0.png", "DU/train/jug/d/0.png"
    )
    assert {path: part for path, (_, part, _) in told(root).items()} == {
        "DS/train/cup/a": "train",
        "DS/retrieval/cup/b": "test",
        "DU/retrieval/jug/c": "test",
        "DU/train/jug/d": "gallery",
    }
    assert find_objects(root).held_out == ("jug",)


def test_find_objects__a_folder_of_photos_is_left_out(make_images: MakeImages) -> None:
    root = make_images("cup/c1/0.png", "photos/beach.png")
    with pytest.raises(DataError, match=r"1 image belongs to no object: photos/beach\.png"):
        find_objects(root)
    assert list(told(root, leave_out=root / "photos")) == ["cup/c1"]


@pytest.mark.parametrize(
    ("files", "layout", "message"),
    [
        (("loose.png", "cup/c1/0.png"), "auto", "belongs to no object: loose.png"),
        (("cup/holiday.png",), "auto", r"expected class/object/view\.jpg"),
        (("cup/train/c1/0.png", "cup/other/c2/0.png"), "modelnet", "cup/other/c2/0.png"),
        (("cup/c1/0.png",), "open_set", r"expected train/class/object/view\.jpg, and query and target"),
        (("DS/else/cup/c1/0.png", "DU/retrieval/jug/c/0.png"), "auto", "DS/else/cup/c1/0.png"),
        (("train/cup/c1/0.png", "spare/cup/c2/0.png"), "folders", "spare/cup/c2/0.png"),
    ],
)
def test_find_objects__what_belongs_nowhere(
    make_images: MakeImages, files: tuple[str, ...], layout: str, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        told(make_images(*files), layout=layout)
