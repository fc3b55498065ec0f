from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgeproof_configs.errors import DataError
from edgeproof_data.folders import class_folders, list_images


def touch(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"x")
    return root


def test_list_images__any_depth_case_and_suffix(tmp_path: Path):
    wanted = [
        "B.JPG",
        "a.jpeg",
        "c.b.jpg",
        "c.c.jpg",
        "deep/er/d.PnG",
        "deep/er/e.webp",
        "deep/f.BMP",
        "x/a.jpeg",
    ]
    touch(tmp_path, *wanted, "notes.txt", "a.gif", "jpg", "noext")
    assert list_images(tmp_path) == sorted(wanted)


def test_list_images__leaves_hidden_out(tmp_path: Path):
    touch(tmp_path, "a.jpg", ".b.jpg", ".cache/c.jpg", "__MACOSX/._d.jpg")
    assert list_images(tmp_path) == ["a.jpg"]


def test_list_images__follows_links_but_not_in_circles(tmp_path: Path):
    touch(tmp_path / "elsewhere", "c/z.jpg")
    root = touch(tmp_path / "root", "a/x.jpg")
    (root / "a" / "up").symlink_to(root)
    (root / "self").symlink_to("self")
    (root / "linked").symlink_to(tmp_path / "elsewhere")
    (root / "y.jpg").symlink_to(root / "a" / "x.jpg")
    assert list_images(root) == ["a/x.jpg", "linked/c/z.jpg", "y.jpg"]


def test_list_images__broken_link(tmp_path: Path):
    touch(tmp_path, "a.jpg")
    (tmp_path / "b.jpg").symlink_to("gone.jpg")
    with pytest.raises(DataError, match=r"1 image cannot be opened \(broken link\): b.jpg"):
        list_images(tmp_path)


def test_list_images__nothing_there(tmp_path: Path):
    with pytest.raises(DataError, match="no such folder"):
        list_images(tmp_path / "gone")
    with pytest.raises(DataError, match="not a folder"):
        list_images(touch(tmp_path, "a.jpg") / "a.jpg")
    with pytest.raises(DataError, match=r"no image(.|\n)*\.jpeg"):
        list_images(touch(tmp_path / "empty", "readme.md"))


@pytest.mark.parametrize("name", [b"caf\xe9.jpg", b"two\nlines.jpg"])
def test_list_images__name_that_no_index_can_hold(tmp_path: Path, name: bytes):
    with open(os.path.join(os.fsencode(tmp_path), name), "wb") as handle:
        handle.write(b"x")
    with pytest.raises(DataError, match="1 file name not UTF-8"):
        list_images(tmp_path)


def test_class_folders__sorted_without_hidden_and_files(tmp_path: Path):
    touch(tmp_path, "b/1.jpg", "a/1.jpg", ".git/x", "c.jpg")
    assert class_folders(tmp_path) == ["a", "b"]
