from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from edgeproof_configs.errors import DataError
from edgeproof_data.kinds.image_folder import ImageFolder
from edgeproof_data.split_table import Entry, read_split, write_split


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a folder with four pictures of each of two classes, in no parts."""
    for name in ("red_cube", "blue_cube"):
        (tmp_path / name).mkdir()
        for number in range(4):
            Image.new("RGB", (20, 20), (60 * number, 20, 30)).save(tmp_path / name / f"{number}.png")
    return tmp_path


def entries() -> list[Entry]:
    found = [Entry(f"{name}/0.png", "train", name) for name in ("red_cube", "blue_cube")]
    found += [Entry(f"{name}/1.png", "val", name) for name in ("red_cube", "blue_cube")]
    return [*found, *(Entry(f"{name}/{i}.png", "test", name) for name in ("red_cube",) for i in (2, 3))]


def folder(root: Path, **settings: object) -> ImageFolder:
    config = ImageFolder.Config.model_validate({"root": str(root), "split": "few.csv", **settings})
    return ImageFolder(config)


def test_read_split__what_was_written(root: Path) -> None:
    write_split(root / "few.csv", entries())
    read = read_split(root / "few.csv", root)
    assert [(entry.path, entry.part) for entry in read] == [(entry.path, entry.part) for entry in entries()]
    assert read[0].label == "red cube"


def test_image_folder__takes_parts_and_labels_from_the_table(root: Path) -> None:
    write_split(root / "few.csv", entries())
    data = folder(root)
    data.prepare()
    assert data.class_names == ("blue cube", "red cube")
    assert data.split("train").paths == ("blue_cube/0.png", "red_cube/0.png")
    assert data.split("train").labels.tolist() == [0, 1]
    assert data.split("val").paths == ("blue_cube/1.png", "red_cube/1.png")
    assert data.split("test").paths == ("red_cube/2.png", "red_cube/3.png")
    assert root / "few.csv" in data.files()


def test_image_folder__val_is_a_fraction_where_the_table_has_none(root: Path) -> None:
    listed = [Entry(f"{name}/{i}.png", "train", name) for name in ("red_cube", "blue_cube") for i in range(3)]
    tested = [Entry(f"{name}/3.png", "test", name) for name in ("red_cube", "blue_cube")]
    write_split(root / "few.csv", [*listed, *tested])
    data = folder(root, val=0.34)
    assert np.bincount(data.split("val").labels).tolist() == [1, 1]
    assert len(data.split("train")) == 4


@pytest.mark.parametrize("key", ["train", "test", "val"])
def test_image_folder__a_folder_beside_the_table_has_no_effect(key: str, root: Path) -> None:
    with pytest.raises(ValidationError, match="no effect beside split"):
        folder(root, **{key: "elsewhere"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,part\na.png,train\n", "no column label"),
        ("path,part,label\nred_cube/0.png,training,red\n", "unknown part 'training'"),
        ("path,part,label\nred_cube/0.png\n", "a row is too short"),
        ("path,part,label\n../x.png,train,red\n", "does not lie below the root"),
        ("path,part,label\nred_cube/9.png,train,red\n", "1 image of this table missing"),
        ("path,part,label\nred_cube/0.png,train,a\nred_cube/0.png,test,a\n", "1 image twice"),
    ],
)
def test_read_split__refused_in_words(text: str, message: str, root: Path) -> None:
    (root / "few.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        read_split(root / "few.csv", root)


def test_image_folder__a_row_without_a_label(root: Path) -> None:
    write_split(root / "few.csv", [*entries(), Entry("red_cube/1.png", "val", "")][-1:])
    with pytest.raises(DataError, match="1 image of this table without a label"):
        folder(root).split("train")
