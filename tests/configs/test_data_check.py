from __future__ import annotations

import io
import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from edgeproof.data_check import parts_of

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def folder(photos: Path, tmp_path: Path) -> Path:
    """Return a copy of the pictures with a cut one, an empty one, and one of train in test."""
    root = tmp_path / "photos"
    shutil.copytree(photos, root)
    cut = root / "train" / "red_square" / "a.01.png"
    cut.write_bytes(cut.read_bytes()[:100])
    (root / "train" / "red_square" / "a.02.png").write_bytes(b"")
    shutil.copy(root / "train" / "blue_square" / "a.00.png", root / "test" / "blue_square" / "copy.png")
    return root


def test_check__names_what_is_wrong(folder: Path, edgeproof: Run) -> None:
    code, out, err = edgeproof("data", "check", folder)
    assert (code, err) == (1, "")
    assert "1 corrupt: train/red_square/a.01.png" in out
    assert "1 empty: train/red_square/a.02.png" in out
    assert "test/blue_square/copy.png" in out


def test_check__json_tells_leaks_between_parts(folder: Path, edgeproof: Run) -> None:
    code, out, _ = edgeproof("data", "check", folder, "--json")
    found = json.loads(out)
    assert code == 1
    assert found["counts"]["checked"] == 34
    assert [sorted(group) for group in found["leaks"]] == [
        ["test/blue_square/copy.png", "train/blue_square/a.00.png"]
    ]


def test_check__nothing_wrong(photos: Path, edgeproof: Run) -> None:
    assert edgeproof("data", "check", photos) == (0, "33 images checked, 33 good\n", "")


def test_check__smallest_side(photos: Path, edgeproof: Run) -> None:
    code, out, _ = edgeproof("data", "check", photos, "--smallest", 37)
    assert code == 1
    assert "33 too small" in out


def test_check__a_folder_without_images(tmp_path: Path, edgeproof: Run) -> None:
    code, _, err = edgeproof("data", "check", tmp_path)
    assert code == 1
    assert "this folder holds no image" in err


def test_parts_of__a_folder_without_parts(photos: Path) -> None:
    assert list(parts_of(photos / "train")) == [""]
    assert set(parts_of(photos)) == {"train", "test"}


def test_check__objects_with_views(photos: Path, tmp_path: Path, edgeproof: Run) -> None:
    pictures = sorted((photos / "train").rglob("*.png"))
    for number, file in enumerate(pictures[:12]):
        folder = tmp_path / "toys" / ("cup", "owl")[number // 8] / f"toy{number // 4}"
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, folder / f"{number % 4}.png")
    code, out, _ = edgeproof("data", "check", tmp_path / "toys")
    assert code == 0
    assert "3 objects of 2 classes, 4 views each (folders)" in out
    assert "1 class with one object, which has no positive: owl" in out
    (tmp_path / "toys/cup/toy1/3.png").write_bytes(b"")
    code, out, _ = edgeproof("data", "check", tmp_path / "toys")
    assert (code, "1 empty: cup/toy1/3.png" in out) == (1, True)
    (tmp_path / "toys/cup/toy1/3.png").unlink()
    code, out, _ = edgeproof("data", "check", tmp_path / "toys", "--views", 4, "--json")
    assert (code, json.loads(out)["objects"]["too_few"]) == (1, {"cup/toy1": 3})


@pytest.fixture
def shards(photos: Path, tmp_path: Path) -> Path:
    """Return two shards with a cut picture, a name that leads out, and one picture in both."""
    pictures = [file.read_bytes() for file in sorted(photos.rglob("*.png"))[:2]]
    train = {"a.png": pictures[0], "b.png": pictures[1], "cut.png": pictures[0][:90], "../x.png": b"x"}
    for name, entries in (("train-000.tar", train), ("test-000.tar", {"a.png": pictures[0]})):
        with tarfile.open(tmp_path / name, "w") as archive:
            for member, data in entries.items():
                header = tarfile.TarInfo(member)
                header.size = len(data)
                archive.addfile(header, io.BytesIO(data))
    return tmp_path


def test_check__shards(shards: Path, edgeproof: Run) -> None:
    code, out, _ = edgeproof("data", "check", shards)
    assert code == 1
    assert "4 images checked, 3 good" in out
    assert "1 corrupt: train-000.tar/cut.png" in out
    assert "1 group in several parts" in out
    assert "1 member left out (a name that is absolute" in out
    assert edgeproof("data", "check", shards, "--views", "2")[0] == 2
    (shards / "train-000.tar").write_bytes((shards / "train-000.tar").read_bytes()[:700])
    code, _, err = edgeproof("data", "check", shards)
    assert code == 1
    assert "this shard is cut" in err
    (shards / "train-000.tar").unlink()
    shutil.copy(shards / "test-000.tar", shards / "train.tar")
    (shards / "a.png").write_bytes(b"x")
    assert edgeproof("data", "check", shards)[0] == 2
