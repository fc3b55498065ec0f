from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from edgeproof_configs.errors import DataError
from edgeproof_data.check import scan
from edgeproof_data.object_check import ObjectReport, objects_below, views_by_part, without_own_likeness

MakeImages = Callable[..., Path]


def two_views(*names: str) -> list[str]:
    return [f"{name}/{view}.png" for name in names for view in range(2)]


def test_objects_below__single_images_are_no_objects(make_images: MakeImages, tmp_path: Path) -> None:
    assert objects_below(make_images("train/cat/1.png", "test/cat/a.png"), None) is None
    other = tmp_path / "other"
    assert objects_below(make_images("cat/img_001.png", "cat/img_002.png", root=other), None) is None


def test_objects_below__a_number_of_views_says_that_they_are(make_images: MakeImages) -> None:
    root = make_images("cat/img_001.png", "cat/img_002.png", "dog/1.png")
    with pytest.raises(DataError, match=r"belongs to no object: dog/1\.png"):
        objects_below(root, 2)
    (root / "dog/1.png").unlink()
    found = objects_below(root, 2)
    assert found is not None
    assert [item.path for item in found.objects] == ["cat/img"]


def test_report__views_classes_and_loners(make_images: MakeImages) -> None:
    found = objects_below(make_images(*two_views("cup/a", "cup/b", "owl/c"), "cup/a/9.png"), None)
    assert found is not None
    report = ObjectReport.of(found, 3)
    assert report.too_few == {"cup/b": 2, "owl/c": 2}
    assert report.lonely == ["owl"]
    assert report.lines()[0] == "3 objects of 2 classes, 2 to 3 views each (folders)"
    assert "2 with fewer than 3 views: cup/b (2), owl/c (2)" in report.lines()[1]
    assert "say how many evaluation shows: data.views=2" in ObjectReport.of(found, None).lines()[1]


def test_without_own_likeness__an_object_may_look_the_same_twice(make_images: MakeImages) -> None:
    root = make_images(*two_views("cup/train/a", "cup/train/b", "cup/test/c"))
    shutil.copy(root / "cup/train/a/0.png", root / "cup/train/a/1.png")
    shutil.copy(root / "cup/train/b/0.png", root / "cup/test/c/1.png")
    found = objects_below(root, None)
    assert found is not None
    parts = views_by_part(root, found)
    assert {name: len(views) for name, views in parts.items()} == {"train": 4, "test": 2}
    report = without_own_likeness(scan(parts), found)
    assert report.duplicates == report.leaks != []
    assert {tuple(sorted(group)) for group in report.leaks} == {("cup/test/c/1.png", "cup/train/b/0.png")}
