"""Which stage reads what, and which is the first that a change of the recipe touches."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.integration.tiny import make_data, make_recipe

from edgeproof.stages import CHAIN, first_stage_touched, inputs_digest
from edgeproof_configs.files import FileTable
from edgeproof_configs.loader import load_recipe
from edgeproof_configs.run import RunDir
from edgeproof_configs.stage import StageContext
from edgeproof_train.stages import embed_stage

BOTH = {"losses": None, "sparsity": {"epochs": 1}, "quantization": {"images": 8}}
WORDS = {"kind": "text_kl"}


def plain(compress: Any) -> dict[str, Any]:
    return {"data": {}, "teacher": {"kind": "clip"}, "baseline": None, "train": {}, "compress": compress}


@pytest.mark.parametrize(
    ("before", "now", "first"),
    [
        (BOTH, BOTH | {"quantization": {"images": 9}}, "quantize"),
        (BOTH, BOTH | {"sparsity": {"epochs": 2}}, "sparsify"),
        (BOTH, BOTH | {"losses": [WORDS]}, "sparsify"),
        (None, BOTH, "sparsify"),
        (None, BOTH | {"sparsity": None}, "quantize"),
        (BOTH, None, "sparsify"),
    ],
)
def test_first_stage_touched__of_compress(before: Any, now: Any, first: str) -> None:
    assert first_stage_touched(plain(before), plain(now)) == first


def test_inputs_digest__a_stage_that_the_recipe_has_no_more_does_not_count(tmp_path: Path) -> None:
    run, files = RunDir(tmp_path), FileTable(tmp_path / "files.tsv")
    export = next(stage for stage in CHAIN if stage.name == "export")
    never = inputs_digest(export, plain(None), run, files, "")
    run.stage("sparsify").mkdir()
    (run.stage("sparsify") / "weights").write_bytes(b"0")
    run.finish("sparsify", "", [run.stage("sparsify") / "weights"], 0.0, {})
    assert inputs_digest(export, plain(None), run, files, "") == never
    assert inputs_digest(export, plain(BOTH), run, files, "") != never


def test_inputs_digest__embed_sees_losses_of_compression_and_train_does_not(tmp_path: Path) -> None:
    run, files = RunDir(tmp_path), FileTable(tmp_path / "files.tsv")
    other = BOTH | {"losses": [WORDS]}
    for name, changes in (("embed", True), ("train", False)):
        stage = next(stage for stage in CHAIN if stage.name == name)
        found = [inputs_digest(stage, plain(compress), run, files, "") for compress in (BOTH, other)]
        assert (found[0] != found[1]) == changes


def test_inputs_digest__of_a_run_that_is_the_teacher_only_its_student_counts(tmp_path: Path) -> None:
    teacher, files = tmp_path / "runs" / "teacher", FileTable(tmp_path / "files.tsv")
    embed = next(stage for stage in CHAIN if stage.name == "embed")
    recipe = plain(None) | {"teacher": {"kind": "run", "path": str(teacher)}}
    (teacher / "train").mkdir(parents=True)
    (teacher / "recipe.resolved.yaml").write_text("name: teacher")
    (teacher / "train" / "model.safetensors").write_bytes(b"0")

    def digest() -> str:
        return inputs_digest(embed, recipe, RunDir(tmp_path / "run"), files, "")

    before = digest()
    for name in (".lock", "files.tsv", "environment.json"):
        (teacher / name).write_text("looked at again")
    assert digest() == before
    (teacher / "train" / "model.safetensors").write_bytes(b"other")
    assert digest() != before


def test_inputs_digest__photos_with_other_times_and_the_same_contents_count_as_the_same(
    tmp_path: Path,
) -> None:
    data = make_data(tmp_path / "data")
    recipe = load_recipe(str(make_recipe(tmp_path, data, baseline=None)), []).recipe
    train = next(stage for stage in CHAIN if stage.name == "train")
    found, names = [], []
    for number in range(3):
        photos = sorted((data / "train").rglob("*.png"))
        for photo in photos:
            os.utime(photo, (1_700_000_000 + number, 1_700_000_000 + number))
        if number == 2:
            np.save(data / "images.npy", np.load(data / "images.npy")[::-1])
        run = RunDir(tmp_path / f"run{number}")
        files = FileTable(tmp_path / f"files{number}.tsv")
        outcome = embed_stage(StageContext(recipe, run, "cpu", False, files))
        run.finish("embed", "", outcome.outputs, 0.0, outcome.metrics)
        record = run.record("embed")
        assert record is not None
        names.append(set(record.outputs))
        found.append(inputs_digest(train, recipe.model_dump(mode="json"), run, files, ""))
    assert names[0] != names[1]
    assert found[0] == found[1] != found[2]


ZERO_SHOT = {"kind": "zero_shot", "labels": "l.txt", "templates": "plain", "text_embeddings": None}
ZERO_SHOT |= {"logit_scale": None}
GDA = ZERO_SHOT | {"kind": "gda", "use_text": True, "shots": 4}


@pytest.mark.parametrize(
    ("before", "now", "first"),
    [
        (ZERO_SHOT, GDA, "head"),
        (GDA, GDA | {"shots": 8}, "head"),
        (GDA, GDA | {"kind": "nearest_mean"}, "head"),
        (GDA, GDA | {"labels": "other.txt"}, "embed"),
        (ZERO_SHOT, {"kind": "classifier"}, "embed"),
        (GDA, {"kind": "teacher_head", "logit_scale": 32.0}, "embed"),
    ],
)
def test_first_stage_touched__of_a_head_only_its_words_are_trained_on(
    before: Any, now: Any, first: str
) -> None:
    assert first_stage_touched(plain(None) | {"head": before}, plain(None) | {"head": now}) == first


def test_inputs_digest__a_fitted_head_leaves_the_training_of_its_words_as_it_was(tmp_path: Path) -> None:
    run, files = RunDir(tmp_path), FileTable(tmp_path / "files.tsv")
    for stage in CHAIN:
        if "head" not in stage.keys:
            continue
        digests = {
            inputs_digest(stage, plain(None) | {"head": head}, run, files, "") for head in (ZERO_SHOT, GDA)
        }
        assert len(digests) == (2 if stage.name == "head" else 1), stage.name


def test_teacher_stage__there_where_the_run_makes_its_teacher() -> None:
    stage = next(stage for stage in CHAIN if stage.name == "teacher")
    for teacher, applies in (
        ({"kind": "contrastive"}, True),
        ({"kind": "timm", "pca": 512}, True),
        ({"kind": "timm", "pca": None}, False),
        ({"kind": "open_clip"}, False),
    ):
        assert stage.applies({"teacher": teacher}) is applies
