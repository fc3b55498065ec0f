from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from edgeproof_configs.errors import DataError
from edgeproof_data.proposed_split import below, class_name, read_proposed

CLASSES = ("001.Grey_Owl", "002.grizzly+bear")


def cells(names: list[str]) -> np.ndarray:
    found = np.empty((len(names), 1), object)
    found[:, 0] = names
    return found


@pytest.fixture
def mats(tmp_path: Path) -> dict[str, dict[str, Any]]:
    """Return the contents of both files for three owls and two bears, whose photos lie below `photos`."""
    files = [f"/somewhere/else//images/{name}/{i}.jpg" for name in CLASSES for i in range(3)][:5]
    for file in files:
        place = tmp_path / "photos" / "images" / Path(file).relative_to("/somewhere/else/images")
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 16)).save(place)
    return {
        "res101.mat": {"image_files": cells(files), "labels": np.array([[1], [1], [1], [2], [2]])},
        "att_splits.mat": {
            "allclasses_names": cells(list(CLASSES)),
            "trainval_loc": np.array([[1], [2]]),
            "test_seen_loc": np.array([[3]]),
            "test_unseen_loc": np.array([[4], [5]]),
        },
    }


def write(folder: Path, contents: dict[str, dict[str, Any]]) -> Path:
    for name, arrays in contents.items():
        savemat(folder / name, arrays)
    return folder


def test_read_proposed__parts_names_and_unseen_classes(mats: dict[str, Any], tmp_path: Path) -> None:
    entries, unseen = read_proposed(write(tmp_path, mats), tmp_path / "photos" / "images")
    assert unseen == ["grizzly bear"]
    assert [(entry.path, entry.part, entry.label) for entry in entries] == [
        ("001.Grey_Owl/0.jpg", "train", "Grey Owl"),
        ("001.Grey_Owl/1.jpg", "train", "Grey Owl"),
        ("001.Grey_Owl/2.jpg", "test", "Grey Owl"),
        ("002.grizzly+bear/0.jpg", "test", "grizzly bear"),
        ("002.grizzly+bear/1.jpg", "test", "grizzly bear"),
    ]


def test_below__the_longest_end_of_a_stored_path(mats: dict[str, Any], tmp_path: Path) -> None:
    assert below(tmp_path / "photos", "/x/images/001.Grey_Owl/0.jpg") == "images/001.Grey_Owl/0.jpg"
    assert below(tmp_path / "photos", "/x/images/001.Grey_Owl/9.jpg") is None


def test_class_name__in_words() -> None:
    assert class_name("083.White_breasted_Kingfisher") == "White breasted Kingfisher"
    assert class_name("polar+bear") == "polar bear"


@pytest.mark.parametrize(
    ("file", "array", "value", "message"),
    [
        ("res101.mat", "labels", None, "no array labels"),
        ("res101.mat", "labels", np.array([[1], [2]]), "5 images, 2 labels, 2 classes do not fit"),
        ("res101.mat", "labels", np.array([[1], [1], [1], [2], [7]]), "do not fit"),
        ("att_splits.mat", "test_unseen_loc", np.array([[3]]), "trained on and unseen: Grey Owl"),
    ],
)
def test_read_proposed__refused_in_words(
    file: str, array: str, value: Any, message: str, mats: dict[str, Any], tmp_path: Path
) -> None:
    if value is None:
        del mats[file][array]
    else:
        mats[file][array] = value
    with pytest.raises(DataError, match=message):
        read_proposed(write(tmp_path, mats), tmp_path / "photos" / "images")


def test_read_proposed__photos_elsewhere_or_no_files(mats: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="5 images of the split not found"):
        read_proposed(write(tmp_path, mats), tmp_path)
    (tmp_path / "res101.mat").write_text("no")
    with pytest.raises(DataError, match="no MATLAB file"):
        read_proposed(tmp_path, tmp_path)
