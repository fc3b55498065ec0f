from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from edgeproof.__main__ import main
from edgeproof_data.kinds.image_folder import ImageFolder

COUNTS = {"apple": 12, "pear": 9, "quince": 3}


def fill(root: Path, counts: dict[str, int], first: int = 0) -> None:
    for name, count in counts.items():
        (root / name).mkdir(parents=True)
        for number in range(first, first + count):
            Image.new("RGB", (18, 18), (number, 90, 20)).save(root / name / f"{number:02d}.png")


def rows_of(table: Path) -> list[dict[str, str]]:
    with table.open(newline="") as handle:
        return list(csv.DictReader(handle))


def test_split__of_class_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(tmp_path / "fruit", COUNTS)
    table = tmp_path / "few.csv"
    words = ["data", "split", str(tmp_path / "fruit"), str(table), "--shots", "2", "--val-shots", "1"]
    assert main([*words, "--seed", "1"]) == 0
    rows = rows_of(table)
    assert Counter(row["part"] for row in rows) == {"train": 6, "val": 3, "test": 15}
    assert len({row["path"] for row in rows}) == 24
    said = capsys.readouterr().out
    assert "train: 6 images, 2 images a class, effective classes 100 %" in said
    assert "imbalanced: fewest quince 0, pear 6, apple 9" in said
    data = ImageFolder(ImageFolder.Config(root=str(tmp_path / "fruit"), split=str(table)))
    assert len(data.split("train")) == 6
    assert data.class_names == ("apple", "pear", "quince")


def test_split__test_stays_and_the_seed_draws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(tmp_path / "fruit" / "train", COUNTS)
    fill(tmp_path / "fruit" / "test", {"apple": 5, "pear": 1, "quince": 1}, first=30)
    drawn = []
    for name, seed in (("a", "0"), ("b", "0"), ("c", "1")):
        table = tmp_path / f"{name}.csv"
        words = ["data", "split", str(tmp_path / "fruit"), str(table), "--shots", "4", "--json"]
        assert main([*words, "--seed", seed]) == 0
        drawn.append({(row["path"], row["part"]) for row in rows_of(table)})
        told = json.loads(capsys.readouterr().out)
    assert drawn[0] == drawn[1] != drawn[2]
    assert sum(part == "test" for _, part in drawn[0]) == 7
    assert told["parts"]["train"]["classes_with_fewer"] == {"quince": 3}
    assert told["parts"]["test"]["balanced"] is False
    assert told["val_shots"] == 4


def test_split__never_overwrites(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(tmp_path / "fruit", COUNTS)
    (tmp_path / "few.csv").write_text("mine")
    assert main(["data", "split", str(tmp_path / "fruit"), str(tmp_path / "few.csv"), "--shots", "2"]) == 2
    assert "exists and is not overwritten" in capsys.readouterr().err


def test_split__nothing_left_to_test(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(tmp_path / "fruit", {"apple": 2, "pear": 2})
    assert main(["data", "split", str(tmp_path / "fruit"), str(tmp_path / "few.csv"), "--shots", "9"]) == 1
    assert "no image is left for val" in capsys.readouterr().err
    assert not (tmp_path / "few.csv").exists()


def test_proposed__a_table_that_an_image_folder_reads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(tmp_path / "birds", {"001.Grey_Owl": 4, "002.Red_Kite": 4, "003.Elf_Owl": 2})
    files = sorted(path.relative_to(tmp_path) for path in (tmp_path / "birds").rglob("*.png"))
    cells = np.empty((3, 1), object), np.empty((10, 1), object)
    cells[0][:, 0] = ["001.Grey_Owl", "002.Red_Kite", "003.Elf_Owl"]
    cells[1][:, 0] = [f"/made/elsewhere/{file}" for file in files]
    labels = np.repeat([1, 2, 3], [4, 4, 2])[:, None]
    savemat(tmp_path / "res101.mat", {"image_files": cells[1], "labels": labels})
    places = {"trainval_loc": [1, 2, 3, 5, 6, 7], "test_seen_loc": [4, 8], "test_unseen_loc": [9, 10]}
    savemat(
        tmp_path / "att_splits.mat",
        {"allclasses_names": cells[0], **{key: np.array(value)[:, None] for key, value in places.items()}},
    )
    words = ["data", "proposed", str(tmp_path), str(tmp_path / "birds"), str(tmp_path / "few.csv")]
    assert main(words) == 0
    assert "6 images to train on, 4 of test, 2 of them of 1 unseen class" in capsys.readouterr().out
    root, table, unseen = (str(tmp_path / name) for name in ("birds", "few.csv", "few.unseen.txt"))
    data = ImageFolder(ImageFolder.Config(root=root, split=table, unseen=unseen, val=0.34))
    data.prepare()
    assert data.unseen == ("Elf Owl",)
    assert [len(data.split(name)) for name in ("train", "val", "test")] == [4, 2, 4]
    assert main(words) == 2
    assert "not overwritten" in capsys.readouterr().err
