"""Distillation between classifiers: a teacher learnt from labels in one run, its student in another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.integration import tiny

from edgeproof.ship import ship
from edgeproof_configs.files import FileTable
from edgeproof_configs.loader import load_recipe
from edgeproof_configs.run import RunDir
from edgeproof_configs.stage import StageContext
from edgeproof_data.loader import TrainLoader
from edgeproof_deploy.runtime.predictor import Predictor
from edgeproof_train.distil import new_student, supervision
from edgeproof_train.run_data import RunData
from edgeproof_train.supervision import LiveSupervision

pytestmark = pytest.mark.integration

LABELS_ONLY: dict[str, Any] = {
    "teacher": {"kind": "none"},
    "losses": [{"kind": "cross_entropy"}],
    "baseline": None,
    "head": {"kind": "classifier"},
    "deploy": {"batch": [1, 2], "engines": ["onnxruntime"]},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def teacher(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shipped run that learnt from labels alone."""
    folder = tmp_path_factory.mktemp("teacher")
    recipe = tiny.make_recipe(folder, data, **LABELS_ONLY)
    assert ship(str(recipe), overrides=["train.epochs=8", "train.lr=1e-2"], run=folder / "run") == 0
    return folder / "run"


def student_recipe(
    folder: Path, data: Path, teacher: Path, losses: list[dict[str, Any]], **more: Any
) -> Path:
    """Write a recipe that learns from the teacher run."""
    parts = {**LABELS_ONLY, "teacher": {"kind": "run", "path": str(teacher)}, "losses": losses}
    return tiny.make_recipe(folder, data, **{**parts, **more})


def rows(run: Path) -> dict[str, dict[str, Any]]:
    """Return the rows of a run's result by form and engine."""
    found = json.loads((run / "result.json").read_text())["rows"]
    return {f"{row['form']} {row.get('engine') or ''}".strip(): row for row in found}


def test_ship__without_a_teacher(teacher: Path, data: Path) -> None:
    found = rows(teacher)
    assert "teacher" not in found
    assert found["student onnxruntime"]["metrics"]["top1"] > 0.6
    predictor = Predictor.open(teacher / "bundle")
    picture = next((data / "test" / "red_square").iterdir())
    (prediction,) = predictor.predict([picture])
    assert {label for label, _ in prediction.labels} == {"blue square", "green square", "red square"}
    assert sum(share for _, share in prediction.labels) == pytest.approx(1)
    predictor.close()


@pytest.mark.parametrize(
    ("name", "losses"),
    [
        ("logits", [{"kind": "cross_entropy"}, {"kind": "soft_target", "temperature": 2}]),
        (
            "maps",
            [
                {"kind": "cross_entropy"},
                {"kind": "attention_transfer", "nodes": [{"student": "layer2", "teacher": "layer2"}]},
            ],
        ),
    ],
)
def test_ship__student_of_a_run(
    name: str, losses: list[dict[str, Any]], teacher: Path, data: Path, tmp_path: Path
) -> None:
    recipe = student_recipe(tmp_path, data, teacher, losses)
    assert ship(str(recipe), overrides=[], run=tmp_path / name) == 0
    found = rows(tmp_path / name)
    assert found["teacher"]["metrics"]["top1"] == rows(teacher)["student onnxruntime"]["metrics"]["top1"]
    assert "cosine_mean" in found["student onnxruntime"]["metrics"]


def test_ship__stored_views_say_what_the_live_teacher_says(teacher: Path, data: Path, tmp_path: Path) -> None:
    """Two epochs on two stored views end where two epochs under the live teacher on the same views would."""
    losses = [{"kind": "soft_target", "temperature": 2}]
    recipe = student_recipe(tmp_path, data, teacher, losses)
    views = ["teacher.stored_views=2", "train.epochs=4", "train.warmup_epochs=1"]
    assert ship(str(recipe), overrides=views, run=tmp_path / "views", until="train") == 0
    folders = sorted(folder.name for folder in (tmp_path / "views" / "embed").glob("train*"))
    assert folders == ["train_view_000", "train_view_001"]
    run, files = RunDir(tmp_path / "views"), FileTable(tmp_path / "views" / "files.tsv")
    found = RunData(StageContext(load_recipe(str(recipe), views).recipe, run, "cpu", False, files))
    images = found.split("train")
    loader = TrainLoader(
        images,
        new_student(found).preprocess,
        found.recipe.train.augment,
        batch_size=8,
        seed=3,
        workers=0,
        views=2,
    )
    stored = supervision(found, new_student(found), images)
    live = LiveSupervision(found.teacher, new_student(found).preprocess)
    assert stored is not None
    seen = set()
    for epoch in (0, 1, 2):
        batch = next(loader.epoch(epoch))
        seen.add(batch.get("view"))
        torch.testing.assert_close(stored(batch).logits, live(batch).logits, rtol=2e-3, atol=2e-3)
    assert seen == {0, 1}


def test_ship__simkd_ships_the_teachers_classifier(teacher: Path, data: Path, tmp_path: Path) -> None:
    losses = [{"kind": "simkd", "nodes": [{"student": "layer4", "teacher": "layer4"}]}]
    recipe = student_recipe(tmp_path, data, teacher, losses)
    assert ship(str(recipe), overrides=["train.epochs=6", "train.lr=1e-2"], run=tmp_path / "run") == 0
    shipped = load_file(tmp_path / "run" / "train" / "model.safetensors")
    own = load_file(teacher / "train" / "model.safetensors")
    torch.testing.assert_close(shipped["embedding_head.classifier.weight"], own["fc.weight"])
    assert rows(tmp_path / "run")["student onnxruntime"]["metrics"]["top1"] > 0.6
