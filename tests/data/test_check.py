from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgeproof_data.check import scan, usable
from edgeproof_data.folders import list_images
from edgeproof_data.sets import ImageSet, unlabelled

MakeImages = Callable[..., Path]


@pytest.fixture
def photos(make_images: MakeImages) -> Path:
    return make_images(*(f"{number:02d}.jpg" for number in range(40)), size=(40, 30))


def spoil(root: Path) -> dict[str, str]:
    """Break some files; return a word of the reason that must be given for each."""
    whole = (root / "05.jpg").read_bytes()
    (root / "05.jpg").write_bytes(whole[: len(whole) // 2])
    (root / "11.jpg").write_bytes(np.random.default_rng(0).bytes(3000))
    (root / "23.jpg").write_text("<!DOCTYPE html><title>404</title>")
    (root / "30.jpg").unlink()
    (root / "30.jpg").mkdir()
    return {
        "05.jpg": "damaged",
        "11.jpg": "is not an image",
        "23.jpg": "is not an image",
        "30.jpg": "directory",
    }


def as_set(root: Path) -> ImageSet:
    return ImageSet(root, tuple(f"{n:02d}.jpg" for n in range(40)), np.arange(40) % 2, ("a", "b"))


@pytest.mark.parametrize("workers", [1, 4])
def test_scan__corrupt_files_are_listed_and_do_not_stop_it(photos: Path, workers: int):
    reasons = spoil(photos)
    (photos / "02.jpg").write_bytes(b"")
    report = scan(as_set(photos), workers=workers)
    assert [path for path, _ in report.corrupt] == list(reasons)
    assert all(reasons[path] in reason for path, reason in report.corrupt)
    assert report.empty == ["02.jpg"]
    assert (report.checked, report.ok) == (40, 35)
    assert not report.clean


def test_scan__nothing_wrong(photos: Path):
    report = scan([photos / name for name in list_images(photos)])
    assert report.clean
    assert report.lines() == ["40 images checked, 40 good"]


def test_scan__too_small(photos: Path):
    Image.new("RGB", (200, 15)).save(photos / "03.jpg")
    report = scan(as_set(photos))
    assert report.too_small == [("03.jpg", 15)]
    assert report.ok == 39
    assert len(scan(as_set(photos), smallest_side=31).too_small) == 40


def test_scan__identical_files_also_across_parts(photos: Path):
    (photos / "test").mkdir()
    for copy in ("39.jpg", "test/a.jpg"):
        shutil.copyfile(photos / "01.jpg", photos / copy)
    shutil.copyfile(photos / "08.jpg", photos / "09.jpg")
    parts = {"train": as_set(photos), "test": unlabelled(photos, ["test/a.jpg"])}
    report = scan(parts)
    assert report.duplicates == [["01.jpg", "39.jpg", "test/a.jpg"], ["08.jpg", "09.jpg"]]
    assert report.leaks == [["01.jpg", "39.jpg", "test/a.jpg"]]
    assert report.near_duplicates is None
    assert scan(parts["train"]).leaks == []


def test_scan__near_duplicates(photos: Path):
    with Image.open(photos / "07.jpg") as image:
        image.resize((33, 25)).save(photos / "31.jpg", quality=60)
    shutil.copyfile(photos / "07.jpg", photos / "12.jpg")
    (photos / "20.jpg").write_bytes(b"broken")
    report = scan(as_set(photos), near=True)
    assert report.near_duplicates == [["07.jpg", "31.jpg"]]
    assert report.duplicates == [["07.jpg", "12.jpg"]]


def test_report__as_data_and_as_lines(photos: Path):
    spoil(photos)
    (photos / "02.jpg").write_bytes(b"")
    for number in range(34, 39):
        shutil.copyfile(photos / "33.jpg", photos / f"{number}.jpg")
    report = scan(as_set(photos))
    plain = json.loads(json.dumps(report.to_dict()))
    assert plain["counts"] == {
        "checked": 40, "ok": 35, "corrupt": 4, "empty": 1, "too_small": 0, "duplicates": 1, "leaks": 0,
    }  # fmt: skip
    lines = report.lines()
    assert lines[0] == "40 images checked, 35 good"
    assert lines[1].startswith("  4 corrupt: 05.jpg (is damaged")
    assert lines[1].endswith("and 1 more")
    assert "  1 empty: 02.jpg" in lines
    assert "  1 group of identical files: 33.jpg = 34.jpg = 35.jpg = … (6 files)" in lines


def test_usable__leaves_out_what_cannot_be_read(photos: Path):
    reasons = spoil(photos)
    (photos / "02.jpg").write_bytes(b"")
    images, corrupt = usable(as_set(photos))
    assert [path for path, _ in corrupt] == sorted([*reasons, "02.jpg"])
    assert len(images) == 35
    assert images.labels.tolist() == [int(path[:2]) % 2 for path in images.paths]
    assert images.class_names == ("a", "b")


def test_usable__all_good_or_none(photos: Path):
    images = as_set(photos)
    assert usable(images) == (images, [])
    for file in photos.iterdir():
        os.truncate(file, 0)
    assert len(usable(images)[0]) == 0
