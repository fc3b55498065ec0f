from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from edgeproof_data.kinds.multi_view import MultiView
from edgeproof_data.object_trees import FoundObject, find_objects
from edgeproof_data.seen_unseen import choose_classes, link_split, link_views, split_of

MakeImages = Callable[..., Path]
NAMES = [f"class{number:02d}" for number in range(40)]


def test_choose_classes__by_seed_and_name() -> None:
    seen, unseen = choose_classes(NAMES, 20, 20, seed=0)
    assert sorted(seen + unseen) == NAMES
    assert (
        (seen, unseen) == choose_classes(NAMES[::-1], 20, 20, seed=0) != choose_classes(NAMES, 20, 20, seed=1)
    )
    fewer = choose_classes(NAMES, 10, 5, seed=0)
    assert set(fewer[0]) < set(seen)
    assert not set(fewer[0]) & set(fewer[1])
    with pytest.raises(ValueError, match="30 seen and 20 unseen of 40 classes"):
        choose_classes(NAMES, 30, 20, seed=0)


def told(objects: list[FoundObject]) -> Counter[tuple[str, str | None]]:
    return Counter((found.label, found.part) for found in objects)


def test_split_of__gallery_or_each_other() -> None:
    objects = [FoundObject(f"{n}/{i}", n, None, ("x",)) for n in ("a", "b", "c") for i in range(10)]
    assert told(split_of(objects, ["a"], ["b"], 0.3, seed=0)) == {
        ("a", "train"): 7,
        ("a", "test"): 3,
        ("b", "gallery"): 7,
        ("b", "test"): 3,
    }
    assert told(split_of(objects, ["a"], ["b", "c"], 0.3, seed=0, each_other=True)) == {
        ("a", "train"): 7,
        ("a", "test"): 3,
        ("b", "test"): 10,
        ("c", "test"): 10,
    }


def test_link_split__a_tree_that_is_read_as_it_is(make_images: MakeImages, tmp_path: Path) -> None:
    root = make_images(
        *(f"{n}/{n}{i}/{v}.png" for n in ("cup", "toy_car", "jug") for i in range(6) for v in range(2))
    )
    divided = split_of(find_objects(root).objects, ["cup", "jug"], ["toy car"], 0.34, seed=0)
    link_split(root, divided, ["toy car"], tmp_path / "tree")
    data = MultiView(MultiView.Config(root=str(tmp_path / "tree"), val=0.34))
    data.prepare()
    assert data.unseen == ("toy car",)
    gallery = data.gallery()
    assert gallery is not None
    assert Counter(path.split("/")[0] for path in gallery.paths) == {"DU": 4, "DS": 4}
    assert len(data.split("test")) == 6
    assert data.files()[0].read_bytes()
    links = [file for file in (tmp_path / "tree").rglob("*.png") if file.is_symlink()]
    assert len(links) == 36
    assert not any(link.readlink().is_absolute() for link in links)


def test_link_split__parts_that_count_afresh_do_not_collide(make_images: MakeImages, tmp_path: Path) -> None:
    root = make_images("train/cup/1/0.png", "test/cup/1/0.png", "train/jug/1/0.png")
    link_split(root, [f._replace(part="train") for f in find_objects(root).objects], [], tmp_path / "tree")
    assert sorted(item.path for item in find_objects(tmp_path / "tree", "seen_unseen").objects) == [
        "DS/train/cup/test_cup_1",
        "DS/train/cup/train_cup_1",
        "DS/train/jug/1",
    ]


def test_link_views__of_an_object_without_a_folder(make_images: MakeImages, tmp_path: Path) -> None:
    root = make_images("cup/train/cup_01_001.png", "cup/train/cup_01_002.png")
    (found,) = find_objects(root, "modelnet").objects
    link_views(root, found, tmp_path / "out" / found.path)
    assert sorted(file.name for file in (tmp_path / "out/cup/train/cup_01").iterdir()) == [
        "cup_01_001.png",
        "cup_01_002.png",
    ]
