"""Two teachers at once: stored ones of different widths, and two runs that score the same classes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tests.integration import tiny

from edgeproof.ship import ship
from edgeproof_configs.errors import UsageError
from edgeproof_configs.files import FileTable
from edgeproof_configs.loader import load_recipe
from edgeproof_configs.run import RunDir
from edgeproof_configs.stage import StageContext
from edgeproof_data.cache import EmbeddingCache
from edgeproof_train.run_data import RunData
from edgeproof_train.teachers.ensemble import EnsembleTeacher

pytestmark = pytest.mark.integration

OTHER = 10
"""Width of the second teacher's embeddings."""
ENGINE = {"batch": [1, 2], "engines": ["onnxruntime"]}


def member(embeddings: str) -> dict[str, Any]:
    return {"kind": "stored", "files": [{"embeddings": embeddings, "index": "index.csv"}]}


TWO = {"kind": "ensemble", "view": "assume_invariant", "weights": [0.75, 0.25]} | {
    "members": [member("images.npy"), member("other.npy")]
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny data with a second set of embeddings: the first one, turned into another space."""
    root = tiny.make_data(tmp_path_factory.mktemp("data"))
    turn = np.random.default_rng(7).normal(size=(tiny.DIM, OTHER))
    first, text = np.load(root / "images.npy").astype(np.float32), np.load(root / "text.npy")
    np.save(root / "other.npy", (9 * first @ turn).astype(np.float32))
    sides = [np.sqrt(0.75) * tiny.unit(text), np.sqrt(0.25) * tiny.unit(text @ turn)]
    np.save(root / "both_text.npy", np.concatenate(sides, axis=1).astype(np.float32))
    return root


def test_ship__student_in_the_space_of_the_first(data: Path, tmp_path: Path) -> None:
    losses = [{"kind": "multi_teacher"}, {"kind": "text_cross_entropy", "weight": 0.1}]
    recipe = tiny.make_recipe(tmp_path, data, teacher=TWO, losses=losses, baseline=None, deploy=ENGINE)
    assert ship(str(recipe), overrides=["train.epochs=6"], run=tmp_path / "run") == 0
    run = tmp_path / "run"
    cache = EmbeddingCache.open(run / "embed" / "train")
    assert cache.dim == tiny.DIM + OTHER
    units = cache.rows(np.arange(len(cache)))
    np.testing.assert_allclose((units[:, : tiny.DIM] ** 2).sum(axis=1), 0.75, atol=1e-3)
    parts = load_file(run / "train" / "losses.safetensors")
    assert parts["multi_teacher.projectors.1.weight"].shape == (OTHER, tiny.DIM)
    assert parts["multi_teacher.images"] > 0
    result = json.loads((run / "result.json").read_text())
    rows = {row["form"]: row["metrics"] for row in (*result["controls"], *result["rows"])}
    assert rows["teacher"]["top1"] == 1
    assert rows["student"]["cosine_mean"] > rows["untrained student"]["cosine_mean"]
    epochs = [row for row in RunDir(run).metrics() if row["event"] == "epoch"]
    told = [row["losses"]["multi_teacher"] for row in epochs]
    for one in told:
        first, second = one["parts"]["teacher_1"], one["parts"]["teacher_2"]
        assert one["raw"] == pytest.approx(0.75 * first + 0.25 * second, rel=1e-5)
    assert told[-1]["parts"]["teacher_1"] < told[0]["parts"]["teacher_1"]
    assert told[-1]["parts"]["teacher_2"] < told[0]["parts"]["teacher_2"]
    assert (run / "bundle" / "manifest.json").exists()


def test_ship__two_processes_follow_the_curve_of_one(data: Path, tmp_path: Path) -> None:
    """Batches of 4 in each of two processes are one of 8; a transformer keeps no statistics of its batch."""
    losses = [{"kind": "multi_teacher"}, {"kind": "text_cross_entropy", "weight": 0.1}]
    student = {"model": "test_vit", "image_size": 32}
    recipe = tiny.make_recipe(
        tmp_path, data, teacher=TWO, losses=losses, student=student, baseline=None, deploy=ENGINE
    )
    one, two = tmp_path / "one", tmp_path / "two"
    assert ship(str(recipe), overrides=[], run=one, until="train", device="cpu") == 0
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    words = ["train", str(recipe), "--run", str(two), "--set", "train.batch_size=4", "--device", "cpu"]
    done = subprocess.run(
        [*launch, "-m", "--", "edgeproof", *words], capture_output=True, text=True, check=False, timeout=500
    )
    assert done.returncode == 0, done.stderr[-8000:]
    assert len(EmbeddingCache.open(two / "embed" / "train")) == 27
    curves = [[row for row in RunDir(run).metrics() if row["event"] == "epoch"] for run in (one, two)]
    assert [row["step"] for row in curves[0]] == [row["step"] for row in curves[1]] == [3, 6]
    for alone, shared in zip(*curves, strict=True):
        for kind, term in alone["losses"].items():
            assert shared["losses"][kind]["raw"] == pytest.approx(term["raw"], rel=1e-4, abs=1e-6), kind
            assert shared["losses"][kind].get("parts", {}) == pytest.approx(term.get("parts", {}), rel=1e-4)
        assert shared["val"]["top1"] == alone["val"]["top1"]
        assert shared["val"]["cosine_mean"] == pytest.approx(alone["val"]["cosine_mean"], rel=1e-3)
    parts = [load_file(run / "train" / "losses.safetensors") for run in (one, two)]
    assert parts[0]["multi_teacher.images"] == parts[1]["multi_teacher.images"]
    for name in ("mean", "variance"):
        torch.testing.assert_close(*(part[f"multi_teacher.{name}"] for part in parts))


def test_ship__student_in_the_space_of_all(data: Path, tmp_path: Path) -> None:
    head = {"kind": "zero_shot", "text_embeddings": "both_text.npy", "labels": "labels.txt"}
    losses = [{"kind": "cosine_embedding"}, {"kind": "text_kl", "weight": 0.1, "logit_scale": 10.0}]
    parts: dict[str, Any] = {"teacher": TWO | {"space": "all"}, "losses": losses, "head": head}
    recipe = tiny.make_recipe(tmp_path, data, baseline=None, **parts)
    assert ship(str(recipe), overrides=[], run=tmp_path / "run", until="train") == 0
    found = json.loads((tmp_path / "run" / "embed" / "stage.json").read_text())["metrics"]
    assert found["val"]["top1"] == 1
    card = json.loads((tmp_path / "run" / "train" / "config.json").read_text())
    assert tiny.DIM + OTHER in (card["edgeproof"].get("embedding_dim"), card.get("num_classes"))


def test_ship__a_loss_that_knows_one_teacher_only(data: Path, tmp_path: Path) -> None:
    recipe = tiny.make_recipe(tmp_path, data, teacher=TWO, baseline=None)
    with pytest.raises(UsageError, match=r"cosine_embedding.*\(B, 16\).*\(B, 26\)") as caught:
        ship(str(recipe), overrides=[], run=tmp_path / "run", until="embed")
    assert "use multi_teacher" in str(caught.value)


def test_ship__mean_probabilities_of_two_runs(data: Path, tmp_path: Path) -> None:
    scored: dict[str, Any] = {"baseline": None, "head": {"kind": "classifier"}, "deploy": ENGINE}
    alone = {"teacher": {"kind": "none"}, "losses": [{"kind": "cross_entropy"}]}
    teachers = []
    for seed in (0, 1):
        (tmp_path / str(seed)).mkdir()
        recipe = tiny.make_recipe(tmp_path / str(seed), data, **scored, **alone)
        teachers.append({"kind": "run", "path": str(tmp_path / str(seed) / "run")})
        overrides = [f"train.seed={seed}", "train.lr=1e-2"]
        assert ship(str(recipe), overrides=overrides, run=tmp_path / str(seed) / "run", until="train") == 0
    both = {"kind": "ensemble", "members": teachers, "weights": [0.4, 0.6], "top_k": 2, "stored_views": 2}
    recipe = tiny.make_recipe(
        tmp_path, data, teacher=both, losses=[{"kind": "soft_target", "temperature": 1}], **scored
    )
    run = tmp_path / "run"
    assert ship(str(recipe), overrides=[], run=run, until="train") == 0
    assert EmbeddingCache.open(run / "embed" / "train_view_001").top_k == 2
    files = FileTable(tmp_path / "files.tsv")
    loaded = load_recipe(str(recipe)).recipe
    found = RunData(StageContext(loaded, RunDir(run), "cpu", False, files))
    image = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    teacher = found.teacher
    assert isinstance(teacher, EnsembleTeacher)
    shares = [one.encode_logits(image).softmax(dim=1) for one in teacher.members]
    torch.testing.assert_close(teacher.encode_image(image).exp(), 0.4 * shares[0] + 0.6 * shares[1])
