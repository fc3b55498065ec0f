from __future__ import annotations

from pathlib import Path

import pytest

from edgeproof_configs.errors import DataError
from edgeproof_data.paths import counted, resolve_path, some_of


@pytest.fixture
def two_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    root, here = tmp_path / "root", tmp_path / "here"
    root.mkdir()
    here.mkdir()
    monkeypatch.chdir(here)
    return root, here


def test_resolve_path__root_comes_before_the_working_directory(two_places: tuple[Path, Path]):
    root, here = two_places
    (here / "labels.txt").write_text("a")
    assert resolve_path("labels.txt", root) == here / "labels.txt"
    (root / "labels.txt").write_text("a")
    assert resolve_path("labels.txt", root) == root / "labels.txt"
    assert resolve_path("labels.txt", None) == Path("labels.txt")


def test_resolve_path__absolute_and_home(two_places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch):
    root, here = two_places
    monkeypatch.setenv("HOME", str(here))
    (here / "w.bin").write_text("a")
    assert resolve_path(here / "w.bin", root) == here / "w.bin"
    assert resolve_path("~/w.bin", root) == here / "w.bin"


def test_resolve_path__names_both_places(two_places: tuple[Path, Path]):
    root, here = two_places
    with pytest.raises(DataError) as caught:
        resolve_path("gone.txt", root)
    assert caught.value.where == f"{root / 'gone.txt'} or {here / 'gone.txt'}"


def test_some_of__short_and_long():
    assert some_of(["a", "b"]) == "a, b"
    assert some_of(range(7)) == "0, 1, 2 and 4 more"


def test_counted__one_and_many():
    assert [counted(1, "image"), counted(2, "image"), counted(0, "class", "classes")] == [
        "1 image",
        "2 images",
        "0 classes",
    ]
