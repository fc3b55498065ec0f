from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgeproof_configs.errors import DataError, UsageError
from edgeproof_data.gallery_folder import read_gallery


def draw(folder: Path, *views: str) -> None:
    for view in views:
        file = folder / view
        file.parent.mkdir(parents=True, exist_ok=True)
        shade = len(str(file)) % 256
        Image.fromarray(np.full((8, 8, 3), shade, np.uint8)).save(file)


def test_read_gallery__objects_that_search_each_other(tmp_path: Path) -> None:
    draw(tmp_path, *(f"cup/{name}/{view}.png" for name in "ab" for view in range(4)))
    draw(tmp_path, *(f"car/c/{view}.png" for view in range(3)))
    found = read_gallery(tmp_path, 4)
    assert (found.name, found.queries) == (tmp_path.name, None)
    assert found.objects.paths == ("car/c", "cup/a", "cup/b")
    assert [found.objects.class_names[label] for label in found.objects.labels] == ["car", "cup", "cup"]
    # One object has three views: so many are shown of each.
    assert found.objects.view_count == 3
    assert found.remarks(4) == [f"{tmp_path.name}: each object is shown with 3 views, not 4: one has no more"]
    assert read_gallery(tmp_path, 2).objects.view_count == 2
    assert read_gallery(tmp_path, 2).remarks(2) == []


def test_read_gallery__queries_and_targets(tmp_path: Path) -> None:
    draw(tmp_path, "query/cup/a/0.png", "target/cup/b/0.png", "target/car/c/0.png", "train/mug/d/0.png")
    found = read_gallery(tmp_path, 1)
    assert found.queries is not None
    assert found.queries.paths == ("query/cup/a",)
    assert found.objects.paths == ("target/car/c", "target/cup/b")
    assert found.objects.class_names == found.queries.class_names == ("car", "cup", "mug")


def test_read_gallery__views_that_cannot_be_read_are_left_out(tmp_path: Path) -> None:
    draw(tmp_path, *(f"cup/{name}/{view}.png" for name in "abc" for view in range(2)))
    (tmp_path / "cup" / "b" / "1.png").write_bytes(b"no picture")
    found = read_gallery(tmp_path, 1)
    assert found.objects.views[1] == ("cup/b/0.png",)
    assert [path for path, _ in found.skipped] == ["cup/b/1.png"]
    found = read_gallery(tmp_path, 2)
    assert found.objects.paths == ("cup/a", "cup/c")
    assert [path for path, _ in found.skipped] == ["cup/b/1.png", "cup/b"]
    (said,) = found.remarks(2)
    assert "2 views or objects left out: cup/b/1.png (" in said


def test_read_gallery__of_nothing_to_find(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such folder"):
        read_gallery(tmp_path / "none", 1)
    draw(tmp_path, "cup/a/0.png", "car/b/0.png")
    with pytest.raises(DataError, match="no object here has another one of its class"):
        read_gallery(tmp_path, 1)
