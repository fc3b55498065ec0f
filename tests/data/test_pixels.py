from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgeproof_configs.errors import DataError
from edgeproof_data import pixels
from edgeproof_data.folders import list_images
from edgeproof_data.pixels import Squares, StoredSquares, open_squares
from edgeproof_data.sets import ImageSet, unlabelled
from edgeproof_deploy.runtime.preprocess import Preprocess, open_image

MakeImages = Callable[..., Path]
PREPROCESS = Preprocess(image_size=16, resize_size=20)
ALL = np.arange(6)


@pytest.fixture
def images(make_images: MakeImages) -> ImageSet:
    root = make_images("a.png", "b.png", "c.jpg", size=(40, 30))
    make_images("d.png", "e.png", "f.webp", size=(31, 57), root=root)
    return unlabelled(root, list_images(root))


def evaluation_view(images: ImageSet) -> np.ndarray:
    views = [PREPROCESS.pixels(open_image(images.file(index))) for index in range(len(images))]
    return np.stack(views).transpose(0, 3, 1, 2)


def test_squares__of_the_input_size_are_what_evaluation_sees(images: ImageSet):
    assert np.array_equal(Squares(images, PREPROCESS, 16).many(ALL), evaluation_view(images))


def test_squares__middle_of_a_larger_square_is_what_evaluation_sees(images: ImageSet):
    squares = Squares(images, PREPROCESS, 20).many(ALL)
    middle = squares[:, :, 2:18, 2:18].astype(int)
    assert squares.shape == (6, 3, 20, 20)
    assert np.abs(middle - evaluation_view(images)).max() <= 1


def test_squares__border_is_mirrored_where_the_image_ends(images: ImageSet):
    inner = Squares(images, PREPROCESS, 20).many(ALL)
    outer = Squares(images, PREPROCESS, 26).many(ALL)
    assert np.array_equal(outer[:, :, 3:23, 3:23], inner)
    assert np.array_equal(outer[:, :, 3:23, 0:3], inner[..., 3:0:-1])
    assert np.array_equal(outer[:, :, 23:, 3:23], inner[:, :, -2:-5:-1, :])


def test_squares__smaller_than_the_input():
    with pytest.raises(ValueError, match="side must be at least 16"):
        Squares(unlabelled(Path(), []), PREPROCESS, 15)


def test_squares__unreadable_image_is_named(images: ImageSet):
    images.file(2).write_bytes(b"not a photo")
    with pytest.raises(DataError) as caught:
        Squares(images, PREPROCESS, 16).many(ALL)
    assert caught.value.where == str(images.file(2))


@pytest.mark.parametrize("workers", [1, 3])
def test_open_squares__stored_equal_decoded(images: ImageSet, tmp_path: Path, workers: int):
    squares = Squares(images, PREPROCESS, 24)
    stored = open_squares(squares, tmp_path / "pixels", workers)
    assert isinstance(stored, StoredSquares)
    order = np.array([5, 0, 5, 2])
    assert np.array_equal(stored.many(order), squares.many(order))


def test_open_squares__made_once_and_again_when_something_changed(images: ImageSet, tmp_path: Path):
    def files() -> set[str]:
        open_squares(Squares(images, PREPROCESS, 24), tmp_path, 1)
        return {file.name for file in tmp_path.glob("pixels-*")}

    first = files()
    stamp = {name: (tmp_path / name).stat().st_mtime_ns for name in first}
    assert len(first) == 1
    assert files() == first
    assert {name: (tmp_path / name).stat().st_mtime_ns for name in first} == stamp
    os.utime(images.file(0), ns=(1, 1))
    assert len(files()) == 2
    open_squares(Squares(images, PREPROCESS, 25), tmp_path, 1)
    assert len(list(tmp_path.glob("pixels-*"))) == 3


def test_open_squares__not_stored_without_a_folder_or_too_large(
    images: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    squares = Squares(images, PREPROCESS, 24)
    assert open_squares(squares, None, 1) is squares
    monkeypatch.setattr(pixels, "LARGEST_FILE_BYTES", 6 * 3 * 24 * 24 - 1)
    assert open_squares(squares, tmp_path / "pixels", 1) is squares
    assert not (tmp_path / "pixels").exists()


def test_open_squares__nothing_is_left_of_a_failure(images: ImageSet, tmp_path: Path):
    images.file(5).write_bytes(b"")
    with pytest.raises(DataError, match="the file is empty"):
        open_squares(Squares(images, PREPROCESS, 24), tmp_path / "pixels", 2)
    assert [file.name for file in (tmp_path / "pixels").iterdir()] == [".pixels.lock"]
