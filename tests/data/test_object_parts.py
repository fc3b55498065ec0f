from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from edgeproof_configs.errors import DataError
from edgeproof_data.object_parts import (
    check_apart,
    gallery_of,
    parts_of_table,
    parts_of_tree,
    share,
    take_out,
    without_positive,
)
from edgeproof_data.object_trees import FoundObject, PartName

MakeImages = Callable[..., Path]


def some(label: str, count: int, part: PartName | None = None) -> list[FoundObject]:
    return [FoundObject(f"{label}/{n}", label, part, (f"{label}/{n}/0.png",)) for n in range(count)]


@pytest.mark.parametrize(("count", "taken"), [(1, 0), (2, 0), (3, 1), (4, 2), (10, 2), (20, 4)])
def test_share__leaves_pairs_on_both_sides(count: int, taken: int) -> None:
    assert share(count, 0.2) == taken


def test_share__a_number_of_each_class() -> None:
    assert [share(count, 5) for count in (1, 2, 4, 7, 50)] == [0, 0, 2, 5, 5]


def test_take_out__each_class_by_seed_and_path() -> None:
    objects = some("cup", 20) + some("jug", 10)
    stay, out = take_out(objects, 0.3, seed=1)
    assert Counter(found.label for found in out) == {"cup": 6, "jug": 3}
    assert sorted(stay + out) == sorted(objects)
    backwards = take_out(objects[::-1], 0.3, seed=1)[1]
    assert sorted(backwards) == sorted(out) != sorted(take_out(objects, 0.3, seed=2)[1])
    for much in (1.0, 0.0, 0):
        with pytest.raises(ValueError, match="above 0 and below 1"):
            take_out(objects, much, 0)


def test_parts_of_tree__unseen_classes_are_tested_whole() -> None:
    parts = parts_of_tree(some("cup", 10) + some("jug", 5), {"jug"}, 0.2, seed=0)
    assert Counter(found.label for found in parts["train"]) == {"cup": 8}
    assert Counter(found.label for found in parts["test"]) == {"cup": 2, "jug": 5}


def test_parts_of_table__refuses_what_leaks_or_is_not_there(tmp_path: Path) -> None:
    objects = some("cup", 3) + some("jug", 2)
    table = tmp_path / "split.csv"
    table.write_text("path,part,label\ncup/0,train,mug\njug/0,test,\njug/1,gallery,jug\n")
    parts = parts_of_table(objects, table, {"jug"}, tmp_path)
    assert [(name, [(f.path, f.label) for f in found]) for name, found in parts.items()] == [
        ("train", [("cup/0", "mug")]),
        ("test", [("jug/0", "jug")]),
        ("gallery", [("jug/1", "jug")]),
    ]
    for rows, message in (
        ("cup/0,train,cup\njug/0,train,jug\n", r"1 object of unseen classes in train or val: jug/0 \(jug\)"),
        ("cup/0,train,cup\njug/0,val,jug\n", "1 object of unseen classes in train or val"),
        ("cup/9,train,cup\n", "1 object of this table not found: cup/9"),
        ("cup/0,train,cup\ncup/0,test,cup\n", "1 object twice in this table: cup/0"),
        ("cup/0,query,cup\n", "unknown part 'query'"),
    ):
        table.write_text(f"path,part,label\n{rows}")
        with pytest.raises(DataError, match=message) as caught:
            parts_of_table(objects, table, {"jug"}, tmp_path)
        assert caught.value.fix


def test_check_apart__same_name_and_same_views(make_images: MakeImages) -> None:
    root = make_images("train/cup/c1/0.png", "test/cup/c1/0.png")
    one, two = (
        FoundObject(f"{part}/cup/c1", "cup", None, (f"{part}/cup/c1/0.png",)) for part in ("train", "test")
    )
    check_apart({"train": [one], "test": [two]}, root)
    (root / "test/cup/c1/0.png").write_bytes((root / "train/cup/c1/0.png").read_bytes())
    with pytest.raises(DataError, match="1 object in two parts: train/cup/c1 = test/cup/c1"):
        check_apart({"train": [one], "test": [two]}, root)


def test_gallery_of__training_objects_of_classes_that_it_lacks() -> None:
    seen, asked = some("cup", 3), [*some("cup", 1), *some("jug", 1)]
    assert gallery_of({"train": seen, "test": asked}) is None
    assert gallery_of({"train": seen, "test": asked, "gallery": some("jug", 2)}) == some("jug", 2) + seen
    assert gallery_of({"train": seen, "test": some("jug", 1), "gallery": some("jug", 2)}) == some("jug", 2)


def test_without_positive__alone_in_its_class() -> None:
    assert without_positive(some("cup", 2) + some("jug", 1), None) == ["jug"]
    assert without_positive(some("cup", 1) + some("jug", 1), some("cup", 1)) == ["jug"]
