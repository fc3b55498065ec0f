from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from edgeproof_configs.errors import DataError, UsageError
from edgeproof_data.check import usable
from edgeproof_data.kinds.multi_view import MultiView
from edgeproof_data.loader import eval_batches
from edgeproof_data.objects import ObjectSet
from edgeproof_data.sets import SPLITS, SplitName
from edgeproof_data.split_table import write_split
from edgeproof_deploy.runtime.preprocess import Preprocess

MakeImages = Callable[..., Path]


def source(root: Path, **settings: Any) -> MultiView:
    made = MultiView(MultiView.Config(root=str(root), **settings))
    made.prepare()
    return made


def classes_of(objects: ObjectSet | None) -> Counter[str]:
    assert objects is not None
    return Counter(objects.class_names[label] for label in objects.labels)


def ten(name: str, first: int = 0, count: int = 10, views: int = 3) -> list[str]:
    numbers = range(first, first + count)
    return [f"{name}/{Path(name).name}{n}/{view}.png" for n in numbers for view in range(views)]


@pytest.fixture
def toys(make_images: MakeImages) -> Path:
    """Return ten objects of each of three classes, three views each, in no parts."""
    return make_images(*ten("cup"), *ten("jug"), *ten("toy_car"))


def test_multi_view__fractions_by_object(toys: Path) -> None:
    data = source(toys)
    assert data.class_names == ("cup", "jug", "toy car")
    assert [len(data.split(name)) for name in SPLITS] == [18, 6, 6]
    for name in SPLITS:
        assert set(classes_of(data.split(name)).values()) == {len(data.split(name)) // 3}
    paths = [path for name in SPLITS for path in data.split(name).paths]
    assert len(set(paths)) == 30
    assert data.split("test").view_count == 3
    assert data.gallery() is None
    assert data.photos() is None
    assert data.captions("train") is None
    assert data.remarks() == []
    assert len(data.files()) == 90
    assert source(toys).split("test").paths == data.split("test").paths
    assert source(toys, seed=1).split("test").paths != data.split("test").paths


def test_multi_view__unseen_classes_are_only_tested(toys: Path) -> None:
    (toys / "unseen.txt").write_text("toy_car\n")
    for unseen in (("toy car",), "unseen.txt"):
        data = source(toys, unseen=unseen, test=0.3, views=2)
        assert data.unseen == ("toy car",)
        assert classes_of(data.split("test")) == {"cup": 3, "jug": 3, "toy car": 10}
        assert set(classes_of(data.split("train"))) == set(classes_of(data.split("val"))) == {"cup", "jug"}
        assert data.split("test").view_count == 2


def test_multi_view__a_table_says_parts(toys: Path) -> None:
    parts = ["train"] * 6 + ["test"] * 4
    rows = [(f"{name}/{name}{n}", parts[n], name) for name in ("cup", "jug") for n in range(10)]
    rows += [(f"toy_car/toy_car{n}", "test" if n < 3 else "gallery", "toy_car") for n in range(10)]
    write_split(toys / "split.csv", rows)
    data = source(toys, split="split.csv", unseen=("toy_car",), val=0.34)
    assert classes_of(data.split("train")) == {"cup": 4, "jug": 4}
    assert classes_of(data.split("val")) == {"cup": 2, "jug": 2}
    assert classes_of(data.split("test")) == {"cup": 4, "jug": 4, "toy car": 3}
    assert classes_of(data.gallery()) == {"cup": 4, "jug": 4, "toy car": 7}
    assert toys / "split.csv" in data.files()
    with pytest.raises(DataError, match="6 objects of unseen classes in train or val"):
        source(toys, split="split.csv", unseen=("jug", "toy_car"))


def test_multi_view__unseen_classes_are_kept_out_of_a_trees_parts(make_images: MakeImages) -> None:
    files = [
        *ten("cup/train", count=6),
        *ten("cup/test", 6, 2),
        *ten("jug/train", count=6),
        *ten("jug/test", 6, 2),
    ]
    data = source(make_images(*files), unseen=("jug",))
    assert classes_of(data.split("train")) == {"cup": 4}
    assert classes_of(data.split("test")) == {"cup": 2, "jug": 2}
    assert data.remarks() == ["6 objects of unseen classes kept out of train"]


def test_multi_view__open_set_knows_what_is_unseen(make_images: MakeImages) -> None:
    root = make_images(*ten("train/cup", count=6), *ten("query/jug", count=2), *ten("target/jug", 2, 5))
    data = source(root)
    assert data.unseen == ("jug",)
    assert classes_of(data.split("test")) == {"jug": 2}
    assert classes_of(data.gallery()) == {"jug": 5}


def test_multi_view__a_class_both_seen_and_unseen_leaks(make_images: MakeImages) -> None:
    root = make_images(
        *ten("DS/train/cup", count=6), *ten("DS/retrieval/cup", 6, 2), *ten("DU/retrieval/cup", 8, 2)
    )
    with pytest.raises(DataError, match="1 class is both seen and unseen: cup") as caught:
        source(root)
    assert caught.value.fix


def test_multi_view__a_table_overrules_what_the_tree_holds_out(make_images: MakeImages) -> None:
    root = make_images(*ten("DS/train/cup", count=6), *ten("DU/retrieval/jug", count=6))
    rows = [(f"DS/train/cup/cup{n}", "train" if n < 4 else "test", "") for n in range(6)]
    rows += [(f"DU/retrieval/jug/jug{n}", "train" if n < 4 else "test", "") for n in range(6)]
    write_split(root / "split.csv", rows)
    data = source(root, split="split.csv")
    assert data.unseen == ()
    assert classes_of(data.split("test")) == {"cup": 2, "jug": 2}


def test_multi_view__photos_serve_beside(toys: Path, make_images: MakeImages) -> None:
    make_images("street/1.png", "street/2.png", root=toys)
    data = source(toys, photos="street")
    photos = data.photos()
    assert photos is not None
    assert photos.paths == ("1.png", "2.png")
    assert photos.labels.tolist() == [-1, -1]
    assert toys / "street" / "1.png" in data.files()


def test_multi_view__kept_views(toys: Path) -> None:
    tested: tuple[SplitName, ...] = ("val", "test")
    rows = [f"{path},{path}/2.png\n" for path in source(toys).split("train").paths]
    rows += [f"{path},{path}/1.png\n" for name in tested for path in source(toys).split(name).paths]
    (toys / "views.csv").write_text("path,view\n" + "".join(rows))
    data = source(toys, kept_views="views.csv")
    assert data.split("train").view_count == 1
    assert all(views[0].endswith("/2.png") for views in data.split("train").views)


def test_multi_view__too_few_views(toys: Path, make_images: MakeImages) -> None:
    make_images("cup/cup77/0.png", root=toys)
    with pytest.raises(DataError, match=r"objects have 1 to 3 views; the fewer: cup/cup77 \(1\)") as caught:
        source(toys)
    assert caught.value.fix == "say how many evaluation shows: data.views=1"
    assert source(toys, views=1).split("train").view_count == 1
    with pytest.raises(DataError, match=r"1 object with fewer than 2 views: cup/cup77 \(1\)"):
        source(toys, views=2)
    data = source(toys, views=2, too_few="leave_out")
    assert data.remarks() == ["left out 1 object with fewer than 2 views: cup/cup77 (1)"]
    assert "cup/cup77" not in [
        path for name in data.class_names for path in data.split("train").paths if name
    ]
    with pytest.raises(DataError, match="31 objects with fewer than 9 views"):
        source(toys, views=9, too_few="leave_out")


def test_multi_view__too_few_views_in_a_table(toys: Path, make_images: MakeImages) -> None:
    make_images("cup/cup77/0.png", root=toys)
    parts = ["train"] * 6 + ["test"] * 4
    rows = [(f"{name}/{name}{n}", parts[n], name) for name in ("cup", "jug") for n in range(10)]
    write_split(toys / "split.csv", rows)
    assert source(toys, split="split.csv").split("train").view_count == 3
    write_split(toys / "split.csv", [*rows, ("cup/cup77", "train", "cup")])
    with pytest.raises(DataError, match=r"the fewer: cup/cup77 \(1\)"):
        source(toys, split="split.csv")
    data = source(toys, split="split.csv", views=3, too_few="leave_out")
    assert data.remarks() == ["left out 1 object with fewer than 3 views: cup/cup77 (1)"]
    assert len(data.split("train")) + len(data.split("val")) == 12


def test_multi_view__an_empty_table(toys: Path) -> None:
    write_split(toys / "split.csv", [])
    with pytest.raises(DataError, match="no object is left for train"):
        source(toys, split="split.csv")


def test_multi_view__a_class_with_one_object_is_told(toys: Path, make_images: MakeImages) -> None:
    make_images(*ten("owl", count=1), root=toys)
    data = source(toys)
    assert data.remarks() == ["1 class has no positive in train (one object): owl"]
    make_images(*ten("hen", count=1), root=toys)
    assert source(toys, unseen=("hen",)).remarks()[-1] == "1 class has no positive in test (one object): hen"


def test_multi_view__nothing_to_find_or_to_ask(make_images: MakeImages) -> None:
    train = [*ten("train/cup", count=4), *ten("train/jug", count=4)]
    root = make_images(*train, *ten("test/cup", 9, 1), *ten("test/jug", 9, 1))
    with pytest.raises(DataError, match="no query of test has another object of its class to find"):
        source(root)
    root = make_images(*train, root=root.parent / "no-queries")
    with pytest.raises(DataError, match="no object is left for test"):
        source(root)


def test_multi_view__the_same_object_in_two_parts(make_images: MakeImages) -> None:
    root = make_images(*ten("train/cup", count=4), *ten("train/jug", count=4), *ten("test/cup", 3, 3))
    (root / "test/cup/cup3/1.png").write_bytes((root / "train/cup/cup3/2.png").read_bytes())
    with pytest.raises(DataError, match="1 object in two parts: test/cup/cup3 = train/cup/cup3"):
        source(root)


def test_multi_view__views_of_different_sizes(toys: Path) -> None:
    Image.new("L", (90, 31), 7).save(toys / "cup" / "cup0" / "1.png")
    preprocess = Preprocess(8, 8, "bicubic", (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
    data = source(toys)
    shapes = {
        batch["image"].shape[1:]
        for name in SPLITS
        for batch in eval_batches(data.split(name), preprocess, batch_size=4)
    }
    assert shapes == {(3, 3, 8, 8)}


def test_multi_view__an_unreadable_view_is_found(toys: Path) -> None:
    (toys / "cup" / "cup0" / "1.png").write_bytes(b"\x89PNG cut")
    data = source(toys)
    (owner,) = [data.split(n) for n in SPLITS if "cup/cup0" in data.split(n).paths]
    _, corrupt = usable(owner.view_images())
    assert [path for path, _ in corrupt] == ["cup/cup0/1.png"]


def test_multi_view__root_missing_or_unset(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        source(tmp_path / "gone")
    with pytest.raises(UsageError, match=r"data\.root is not set"):
        MultiView(MultiView.Config()).prepare()


@pytest.mark.parametrize(
    "settings",
    [
        {"views": 0},
        {"val": 1.0},
        {"layout": "shapenet"},
        {"too_few": "leave_out"},
        {"split": "a", "test": 0.5},
    ],
)
def test_config__refuses_what_cannot_work(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        MultiView.Config(**settings)


def test_multi_view__real_objects(real_data: Path) -> None:
    data = source(real_data / "eth80", unseen=("dog", "cow", "cup", "car"))
    assert [len(data.split(name)) for name in SPLITS] == [24, 8, 48]
    assert data.split("train").view_count == 41
    assert np.bincount(data.split("train").labels).tolist() == [6, 0, 0, 0, 0, 6, 6, 6]
