"""The stage that chooses images by words, with stored embeddings of small pictures, and of real photos."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.integration.tiny import make_data, make_recipe

from edgeproof_configs.errors import DataError, UsageError
from edgeproof_configs.files import FileTable
from edgeproof_configs.loader import load_recipe
from edgeproof_configs.run import RunDir
from edgeproof_configs.stage import StageContext
from edgeproof_train.curate import curate_stage
from edgeproof_train.run_data import RunData
from edgeproof_train.stages import embed_stage
from edgeproof_train.teachers.stored import StoredTeacher

BARE = {"val": 0.25, "labels": "none"}
TWO = "blue square\ngreen square\n"


def context(folder: Path, *overrides: str, **changes: Any) -> StageContext:
    """Return a run on the pictures without their labels, of which two words are asked for."""
    root = folder / "photos"
    if not root.exists():
        make_data(root)
        (root / "two.txt").write_text(TWO)
        np.save(root / "two.npy", np.load(root / "text.npy")[:2])
    parts = {
        "data": {"kind": "image_folder", "root": str(root)} | BARE,
        "curate": {"floor": 0.5, "near": False},
        "head": {"kind": "zero_shot", "labels": "two.txt", "text_embeddings": "two.npy"},
        "baseline": None,
    }
    recipe = load_recipe(str(make_recipe(folder, root, **parts | changes)), list(overrides)).recipe
    run = RunDir(folder / "run")
    return StageContext(recipe, run, "cpu", strict=False, files=FileTable(folder / "files.tsv"))


def curated(where: StageContext) -> dict[str, Any]:
    outcome = curate_stage(where)
    where.run.finish("curate", "", outcome.outputs, 0.0, outcome.metrics)
    return outcome.metrics


def rows(where: StageContext) -> list[dict[str, str]]:
    with (where.run.stage("curate") / "curated.csv").open(newline="") as handle:
        return list(csv.DictReader(handle))


def test_curate__images_of_the_words_stay_and_embeddings_are_taken_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = context(tmp_path)
    metrics = curated(where)
    assert {row["path"].split("/")[1].replace("_", " ") for row in rows(where)} == {
        "blue square",
        "green square",
    }
    assert all(row["path"].split("/")[1].replace("_", " ") == row["label"] for row in rows(where))
    assert sum(metrics["kept"].values()) == 36
    assert metrics["far"] == 18

    def refuse(*_: Any) -> Any:
        raise AssertionError("embedded again")

    monkeypatch.setattr(StoredTeacher, "stored_reader", refuse)
    monkeypatch.setattr("edgeproof_train.stages.verify_cache", lambda *_: {})
    embed_stage(where)
    data = RunData(where)
    assert len(data.split("train")) + len(data.split("val")) == 24
    assert len(data.cache("test")) == 12
    assert data.given.split("test").labels.size == 18


def test_curate__a_vocabulary_takes_what_fits_it_better(tmp_path: Path) -> None:
    where = context(tmp_path, "curate.floor=-1")
    assert sum(curated(where)["kept"].values()) == 54
    vocabulary = {"vocabulary": "labels.txt", "vocabulary_embeddings": "text.npy"}
    other = context(tmp_path, curate={"floor": -1, "near": False} | vocabulary)
    metrics = curated(other)
    assert sum(metrics["kept"].values()) == 36
    assert metrics["other_words"] == 18


def test_curate__a_test_part_with_labels_is_left_alone(tmp_path: Path) -> None:
    labelled = {"kind": "image_folder", "root": str(tmp_path / "photos"), "unlabelled": ["train", "val"]}
    where = context(tmp_path, data=labelled)
    metrics = curated(where)
    assert metrics["settled"] == ["test"]
    assert metrics["kept"]["test"] == 18
    assert RunData(where).source.class_names == ("blue square", "green square", "red square")


def test_curate__what_cannot_be_done_is_refused(tmp_path: Path) -> None:
    where = context(tmp_path, "curate.floor=0.9999")
    with pytest.raises(
        DataError, match="no image is left for train: 27 images searched for 2 words; cosines"
    ) as found:
        curate_stage(where)
    assert "lower curate.floor" in (found.value.fix or "")
    shards = context(tmp_path).recipe
    labelled = shards.model_copy(update={"data": shards.data.model_copy(update={"labels": "folders"})})
    with pytest.raises(UsageError, match="chooses among images without labels"):
        curate_stage(StageContext(labelled, RunDir(tmp_path / "other"), "cpu", False, where.files))


def test_curate__real_photos_by_41_words(real_data: Path, tmp_path: Path) -> None:
    pack = real_data / "caltech_clip_b32"
    settings = (
        f"data.root={pack}",
        "curate.margin=0.02",
        f"student.weights={real_data / 'mobilenetv2_100_imagenet'}",
    )
    recipe = load_recipe("caltech-from-words", list(settings)).recipe
    where = StageContext(recipe, RunDir(tmp_path / "run"), "cpu", False, FileTable(tmp_path / "files.tsv"))
    metrics = curated(where)
    chosen = [row for row in rows(where) if row["part"] != "test"]
    right = [row["path"].split("/")[2] for row in chosen]
    words = {row["label"] for row in chosen}
    agree = [
        one.lower().replace("_", " ") == row["label"].lower() for one, row in zip(right, chosen, strict=True)
    ]
    # Of all photos 43 % show one of the words.
    assert np.mean(agree) > 0.7
    assert len(words) == 41
    assert metrics["kept"]["test"] == metrics["searched"]["test"]
