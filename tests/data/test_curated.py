from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from edgeproof_configs.errors import DataError
from edgeproof_data.curated import Curated
from edgeproof_data.kinds.image_folder import ImageFolder
from edgeproof_data.split_table import write_split

MakeImages = Callable[..., Path]


@pytest.fixture
def given(make_images: MakeImages) -> ImageFolder:
    root = make_images(*(f"{part}/{n}.png" for part in ("train", "val", "test") for n in range(4)))
    rows = [f"{part}/{n}.png,{part} {n}" for part in ("train", "val", "test") for n in range(4)]
    (root / "captions.csv").write_text("\n".join(["path,caption", *rows]))
    return ImageFolder(ImageFolder.Config(root=str(root), val="val", labels="none", captions="captions.csv"))


def test_curated__has_what_the_table_names(given: ImageFolder, tmp_path: Path) -> None:
    table = tmp_path / "curated.csv"
    write_split(
        table,
        [
            ("train/3.png", "train", "cat"),
            ("train/1.png", "train", "dog"),
            ("val/0.png", "val", "cat"),
            ("test/2.png", "test", ""),
        ],
    )
    data = Curated(given, table)
    data.prepare()
    assert data.split("train").paths == ("train/1.png", "train/3.png")
    assert data.captions("train") == [["train 1"], ["train 3"]]
    assert data.split("val").paths == ("val/0.png",)
    assert (data.split("train").labels == -1).all()
    assert table in data.files()
    assert data.root == given.root


def test_curated__nothing_chosen_yet_or_chosen_images_gone(given: ImageFolder, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no images have been chosen yet"):
        Curated(given, tmp_path / "none.csv").split("train")
    table = tmp_path / "curated.csv"
    write_split(table, [("train/9.png", "train", "cat")])
    with pytest.raises(DataError, match=r"1 chosen image of train no longer there: train/9\.png"):
        Curated(given, table).split("train")
