"""A multi-view teacher trained in a run of its own, and a student that learns what it says of objects."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
import yaml
from pydantic import ValidationError
from safetensors.torch import save_file
from tests.train.head_case import context_of
from tests.train.object_case import make_objects, make_recipe

from edgeproof_configs.errors import EdgeproofError, UsageError
from edgeproof_configs.loader import load_recipe
from edgeproof_configs.run import RunDir
from edgeproof_data.loader import eval_batches
from edgeproof_data.objects import ObjectSet
from edgeproof_train.run_data import RunData
from edgeproof_train.stages import embed_stage, train_stage
from edgeproof_train.student import Student
from edgeproof_train.students.multi_view import MultiViewStudent
from edgeproof_train.teachers.none import NoTeacher

WIDTH = 8
SMALL = {"kind": "multi_view", "model": "test_resnet.r160_in1k", "image_size": 32}
TEACHER: dict[str, Any] = {
    "teacher": {"kind": "none", "embedding_dim": WIDTH},
    "student": {**SMALL, "pooling": "attention", "head": "mlp", "hidden_layers": 2},
    "losses": [{"kind": "triplet"}],
}
FROZEN = {"freeze": ["backbone"], "freeze_except": ["backbone.layer4"]}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_objects(tmp_path_factory.mktemp("data") / "objects")


@pytest.fixture(scope="module")
def taught(root: Path, tmp_path_factory: pytest.TempPathFactory) -> RunData:
    """A run without a teacher: triplets train a network's last stage and head, and the rest is frozen."""
    return trained(tmp_path_factory.mktemp("taught"), root, train=FROZEN, **TEACHER)


def recipe(folder: Path, root: Path, train: dict[str, Any] | None = None, **parts: Any) -> Path:
    """Write a recipe on the objects whose parts are these, and whose training has these settings too."""
    file = make_recipe(folder, root, train=train or {})
    plain = yaml.safe_load(file.read_text()) | parts
    file.write_text(yaml.safe_dump(plain))
    return file


def trained(folder: Path, root: Path, train: dict[str, Any] | None = None, **parts: Any) -> RunData:
    """Return a run that has been trained."""
    context = context_of(RunDir(folder / "run"), recipe(folder, root, train, **parts))
    for name, stage in (("embed", embed_stage), ("train", train_stage)):
        done = stage(context)
        context.run.finish(name, "", done.outputs, 0.0, done.metrics)
    return RunData(context)


def student_of(data: RunData) -> MultiViewStudent:
    student = Student.load(data.context.run.stage("train"))
    assert isinstance(student, MultiViewStudent)
    return student


def test_train_stage__all_but_the_named_layers_keep_what_they_start_with(taught: RunData) -> None:
    student = student_of(taught)
    torch.manual_seed(taught.recipe.train.seed)
    start = MultiViewStudent(taught.recipe.student, WIDTH)  # pyright: ignore[reportArgumentType]
    before, after = start.state_dict(), student.state_dict()
    moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert moved
    assert {name.split(".")[1] for name in moved if name.startswith("backbone.")} == {"layer4"}
    assert any(name.startswith("head.") for name in moved)
    assert taught.context.metrics("train")["best"]["map"] > 0


def test_run__a_student_learns_what_the_trained_teacher_says_of_whole_objects(
    taught: RunData, root: Path, tmp_path: Path
) -> None:
    teacher = {"kind": "run", "path": str(taught.context.run.path)}
    losses = [{"kind": "cosine_embedding"}]
    data = trained(tmp_path, root, teacher=teacher, student=SMALL, losses=losses)
    objects = data.split("val")
    assert isinstance(objects, ObjectSet)
    everything = objects.showing(4)
    assert data.teacher.preprocess is not None
    batches = list(eval_batches(everything, data.teacher.preprocess, batch_size=8, workers=0))
    with torch.no_grad():
        expected = torch.cat([student_of(taught)(batch["image"]).embedding for batch in batches])
    found = data.teacher_rows("val", objects)
    np.testing.assert_allclose(found, expected.numpy(), rtol=5e-3, atol=5e-3)
    # What lies in the cache is what the teacher pools, a row for each view.
    cache = data.cache("train")
    assert cache.dim == data.teacher.per_view().embedding_dim != WIDTH
    assert {"map", "cosine_mean"} <= data.context.metrics("train")["best"].keys()


def test_run__a_teacher_that_pools_within_its_network_is_refused_before_images_are_read(
    root: Path, tmp_path: Path
) -> None:
    early = MultiViewStudent(MultiViewStudent.Config.model_validate({**SMALL, "pool_at": "layer2"}), WIDTH)
    (tmp_path / "early").mkdir()
    early.save(tmp_path / "early")
    teacher = {"kind": "run", "path": str(tmp_path / "early")}
    with pytest.raises(UsageError, match="pools views within its network"):
        trained(tmp_path, root, teacher=teacher, losses=[{"kind": "cosine_embedding"}])
    assert not (tmp_path / "run" / "embed" / "train").exists()


def test_run__a_student_learns_the_tokens_of_a_trained_one(root: Path, clip: Path, tmp_path: Path) -> None:
    tokens = SMALL | {"tokens": True}
    losses = [{"kind": "token_mse", "weight": 10}, {"kind": "relation", "weight": 0.01}]
    first = {"kind": "open_clip", "model": str(clip), "views": "seen"}
    relation = [{"kind": "relation"}]
    teaching = trained(tmp_path / "one", root, teacher=first, student=tokens, losses=relation)
    second = {"kind": "run", "path": str(teaching.context.run.path), "views": "seen"}
    data = trained(tmp_path / "two", root, teacher=second, student=tokens, losses=losses)
    assert data.supply == "live"
    assert data.teacher.token_shape == student_of(data).token_shape
    rows = [row for row in data.context.run.metrics() if row.get("event") == "epoch"]
    assert rows[-1]["losses"]["token_mse"]["raw"] < rows[0]["losses"]["token_mse"]["raw"]


def test_run__tokens_of_a_student_that_has_learnt_none_are_refused_before_images_are_read(
    taught: RunData, root: Path, tmp_path: Path
) -> None:
    teacher = {"kind": "run", "path": str(taught.context.run.path), "views": "seen"}
    student = SMALL | {"tokens": True}
    with pytest.raises(UsageError, match="'run' gives no tokens here, and a loss asks for them") as caught:
        trained(tmp_path, root, teacher=teacher, student=student, losses=[{"kind": "token_mse"}])
    assert "tokens: true} and a loss on tokens" in str(caught.value.fix)
    assert not (tmp_path / "run" / "embed" / "train").exists()


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small CLIP with random weights in a folder that open_clip reads."""
    folder = tmp_path_factory.mktemp("clip")
    model = {
        "embed_dim": 24,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
        "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
    }
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": model}))
    torch.manual_seed(0)
    weights = open_clip.CLIP(**model).state_dict()
    save_file(weights, folder / "open_clip_model.safetensors")
    return folder


@pytest.mark.parametrize("pooling", ["mean", "max"])
def test_open_clip__its_text_tower_names_objects_by_what_it_pools_from_their_views(
    pooling: str, clip: Path, root: Path, tmp_path: Path
) -> None:
    teacher = {"kind": "open_clip", "model": str(clip), "view_pooling": pooling}
    parts = {"teacher": teacher, "student": SMALL, "losses": [{"kind": "cosine_embedding"}]}
    context = context_of(
        RunDir(tmp_path / "run"), recipe(tmp_path, root, head={"kind": "zero_shot"}, **parts)
    )
    metrics = embed_stage(context).metrics
    data = RunData(context)
    objects = data.source.split("val")
    assert isinstance(objects, ObjectSet)
    assert data.teacher.preprocess is not None
    batches = eval_batches(objects.showing(4), data.teacher.preprocess, batch_size=8, workers=0)
    views = torch.cat([batch["image"] for batch in batches])
    unit = torch.nn.functional.normalize(data.teacher.encode_image(views.flatten(0, 1)), dim=1)
    each = unit.unflatten(0, views.shape[:2])
    pooled = each.mean(dim=1) if pooling == "mean" else each.amax(dim=1)
    words = torch.nn.functional.normalize(
        data.teacher.encode_text([f"a photo of a {name}." for name in objects.class_names]), dim=1
    )
    named = torch.nn.functional.normalize(pooled, dim=1) @ words.T
    top1 = float((named.argmax(dim=1).numpy() == objects.labels).mean())
    assert metrics["val"]["top1"] == pytest.approx(top1)
    assert {"top1", "mean_per_class"} <= metrics["val"].keys()


def test_none__an_embedding_needs_a_width(root: Path, tmp_path: Path) -> None:
    with pytest.raises(EdgeproofError, match=r"set teacher\.embedding_dim"):
        load_recipe(str(recipe(tmp_path, root, **{**TEACHER, "teacher": {"kind": "none"}})))
    scores = {**TEACHER, "losses": [{"kind": "cross_entropy"}], "head": {"kind": "classifier"}}
    with pytest.raises(EdgeproofError, match=r"teacher\.embedding_dim: has no effect on class scores"):
        load_recipe(str(recipe(tmp_path, root, **scores)))
    with pytest.raises(ValidationError):
        NoTeacher.Config(embedding_dim=0)
