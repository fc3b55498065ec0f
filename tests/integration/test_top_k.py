"""A student that learns from the largest class probabilities of a teacher, stored once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.integration import tiny
from torch.nn import functional as F

from edgeproof.ship import ship
from edgeproof_configs.errors import EdgeproofError, RecipeError, UsageError
from edgeproof_configs.files import FileTable
from edgeproof_configs.loader import load_recipe
from edgeproof_configs.run import RunDir
from edgeproof_configs.stage import StageContext
from edgeproof_data.cache import EmbeddingCache, StaleCacheError
from edgeproof_data.loader import TrainLoader
from edgeproof_train.distil import new_student, supervision
from edgeproof_train.embed import cache_key, embed_split
from edgeproof_train.run_data import RunData
from edgeproof_train.supervision import LiveSupervision
from edgeproof_train.teachers.run import RunTeacher
from edgeproof_train.verify_top_k import verify_top_k

pytestmark = pytest.mark.integration

CLASSES: dict[str, Any] = {
    "baseline": None,
    "head": {"kind": "classifier"},
    "deploy": {"batch": [1, 2], "engines": ["onnxruntime"]},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def teacher(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that learnt from labels alone."""
    folder = tmp_path_factory.mktemp("teacher")
    alone = {"teacher": {"kind": "none"}, "losses": [{"kind": "cross_entropy"}]}
    recipe = tiny.make_recipe(folder, data, **CLASSES, **alone)
    assert ship(str(recipe), overrides=["train.lr=1e-2"], run=folder / "run", until="train") == 0
    return folder / "run"


@pytest.fixture
def recipe(data: Path, teacher: Path, tmp_path: Path) -> str:
    """A student of that run, on two of three probabilities, without augmentation."""
    parts = {
        "teacher": {"kind": "run", "path": str(teacher), "top_k": 2},
        "losses": [{"kind": "cross_entropy"}, {"kind": "soft_target", "temperature": 1}],
        "train": {"epochs": 4, "batch_size": 8, "warmup_epochs": 0.5, "workers": 0},
    }
    return str(tiny.make_recipe(tmp_path, data, **CLASSES, **parts))


def data_of(recipe: str, run: Path, *overrides: str) -> RunData:
    loaded = load_recipe(recipe, overrides).recipe
    return RunData(StageContext(loaded, RunDir(run), "cpu", False, FileTable(run / "files.tsv")))


def test_ship__on_stored_probabilities(recipe: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert ship(recipe, overrides=[], run=run) == 0
    found = json.loads((run / "embed" / "stage.json").read_text())["metrics"]
    assert found["supply"] == "cache"
    assert found["cache"]["top_k"]["sample"] == 27
    assert found["cache"]["top_k"]["variation_max"] < 1e-3
    caches = {part: EmbeddingCache.open(run / "embed" / part).top_k for part in ("train", "val", "test")}
    assert caches == {"train": 2, "val": None, "test": None}
    rows = json.loads((run / "result.json").read_text())["rows"]
    assert {"top1", "cosine_mean"} <= set(next(row for row in rows if row["form"] == "student")["metrics"])


def test_supervision__gives_what_the_live_teacher_says(recipe: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    views = ["teacher.stored_views=2", "train.augment.flip=0.5"]
    assert ship(recipe, overrides=views, run=run, until="embed") == 0
    assert sorted(folder.name for folder in (run / "embed").glob("train*")) == [
        "train_view_000",
        "train_view_001",
    ]
    found = data_of(recipe, run, *views)
    images, student = found.split("train"), new_student(found)
    loader = TrainLoader(
        images, student.preprocess, found.recipe.train.augment, batch_size=8, seed=3, workers=0, views=2
    )
    stored, live = supervision(found, student, images), LiveSupervision(found.teacher, student.preprocess)
    assert stored is not None
    for epoch in (0, 1):
        batch = next(loader.epoch(epoch))
        top, shares = stored(batch).top, F.softmax(live(batch).logits, dim=1)
        torch.testing.assert_close(top.values, shares.gather(1, top.ids), rtol=0, atol=1e-3)
        assert torch.equal(top.ids[:, 0], shares.argmax(dim=1))
        torch.testing.assert_close(top.values.sum(dim=1) + top.rest(), torch.ones(8))


def test_cache__of_something_else_is_refused(recipe: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert ship(recipe, overrides=[], run=run, until="embed") == 0
    found = data_of(recipe, run)
    images, teacher = found.split("train"), found.teacher
    EmbeddingCache.open(run / "embed" / "train", cache_key(teacher, top_k=2))
    for other in (1, None):
        with pytest.raises(StaleCacheError, match="output"):
            EmbeddingCache.open(run / "embed" / "train", cache_key(teacher, top_k=other))
    cache = found.cache("train")
    verify_top_k(cache, teacher, images)
    assert isinstance(teacher, RunTeacher)
    with torch.no_grad():
        for parameter in teacher.student.head_parameters():
            parameter[1].neg_()
    with pytest.raises(EdgeproofError, match="do not agree"):
        verify_top_k(cache, teacher, images)
    anew = embed_split(teacher, images, run / "embed" / "train", batch_size=8, workers=0, top_k=3)
    np.testing.assert_allclose(anew.top([0, 1]).probabilities.sum(axis=1), 1, atol=1e-6)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["losses.1.temperature=4"], "losses.1: soft_target cannot .* set temperature: 1"),
        (["losses.1.standardise=true"], "losses.1: soft_target cannot .* remove standardise"),
        (["losses.1.kind=dkd"], "losses.1: dkd cannot learn from the top_k probabilities: it looks at"),
        (["losses.1={kind: dist}"], "losses.1: dist cannot learn"),
        (["train.augment.flip=0.5"], "teacher.top_k: has no effect: nothing is stored here"),
        (
            ["teacher={kind: none, top_k: 2}", "losses=[{kind: cross_entropy}]"],
            "teacher.top_k: has an effect",
        ),
    ],
)
def test_load_recipe__what_top_k_cannot_do(recipe: str, overrides: list[str], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load_recipe(recipe, overrides)


def test_ship__more_than_there_are_classes(recipe: str, tmp_path: Path) -> None:
    found = data_of(recipe, tmp_path, "teacher.top_k=4")
    with pytest.raises(UsageError, match="the 4 largest of 3 class probabilities"):
        assert found.teacher
