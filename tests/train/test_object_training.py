"""From views of objects and stored embeddings of each to a student that is trained, stopped and goes on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.train.object_case import DIM, data_of, embedded, make_objects

from edgeproof_configs.errors import UsageError
from edgeproof_data.cache import EmbeddingCache
from edgeproof_data.object_loader import ObjectLoader
from edgeproof_data.objects import ObjectSet
from edgeproof_train.distil import (
    distil,
    loader_of,
    new_student,
    start_from_least_squares,
    supervised_task,
    train_on_labels,
)
from edgeproof_train.embeddings import pooled_features
from edgeproof_train.run_data import RunData
from edgeproof_train.stages import baseline_stage, train_stage
from edgeproof_train.student import Student

PHOTOS = 6
FIGURES = {"map", "ndcg", "anmrr", "nn", "queries"}


class StopError(Exception):
    """Somebody pulled the plug."""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_objects(tmp_path_factory.mktemp("data") / "objects")


@pytest.fixture(scope="module")
def with_photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_objects(tmp_path_factory.mktemp("data") / "objects", PHOTOS)


@pytest.fixture(scope="module")
def data(root: Path, tmp_path_factory: pytest.TempPathFactory) -> RunData:
    return data_of(tmp_path_factory.mktemp("run"), root)


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def stored(root: Path, paths: list[str]) -> np.ndarray:
    known = [path.removeprefix("photos/") for path in (root / "index.csv").read_text().split()[1:]]
    return np.load(root / "rows.npy")[[known.index(path) for path in paths]]


def test_embed_stage__stores_each_view_once(data: RunData, root: Path) -> None:
    counts = data.context.metrics("embed")["images"]
    assert counts == {"train": 16, "val": 8, "test": 8}
    cache = data.cache("train")
    objects = data.split("train")
    assert isinstance(objects, ObjectSet)
    flat = objects.view_images()
    assert len(flat) == 16 * 4
    raw = cache.rows(cache.find(flat), raw=True)
    assert np.allclose(raw, stored(root, list(flat.paths)), rtol=2e-3, atol=5e-3)


@pytest.mark.parametrize("pooling", ["mean", "max"])
def test_teacher_rows__pools_the_unit_vectors_of_all_views(pooling: str, root: Path, tmp_path: Path) -> None:
    data = data_of(tmp_path, root, teacher={"view_pooling": pooling})
    objects = data.split("val")
    assert isinstance(objects, ObjectSet)
    rows = data.teacher_rows("val", objects)
    assert rows.shape == (8, DIM)
    for row, views in zip(rows, objects.views, strict=True):
        each = unit(stored(root, list(views)))
        assert np.allclose(row, each.mean(axis=0) if pooling == "mean" else each.max(axis=0), atol=2e-3)


@pytest.mark.parametrize("seen", ["all", "seen"])
def test_supervision__pools_all_views_or_those_of_the_step(
    seen: str, with_photos: Path, tmp_path: Path
) -> None:
    root = with_photos
    data = data_of(tmp_path, root, teacher={"views": seen}, data={"photos": "photos"})
    images, student = data.split("train"), new_student(data)
    assert isinstance(images, ObjectSet)
    task = supervised_task(data, student, images)
    assert task.supervision is not None
    loader: Any = loader_of(data, task, data.recipe.train, images, views=True)
    everything = data.teacher_rows("train", images)
    photos = data.split("photos")
    for batch in loader.epoch(0):
        found = task.supervision(batch).embedding.numpy()
        index, views = batch["index"].numpy(), batch["views"].numpy()
        if index[0] >= len(images):
            names = [photos.paths[place] for place in index - len(images)]
            expected = unit(stored(root, names))
        elif seen == "all":
            expected = everything[index]
        else:
            shown = [[images.views[i][view] for view in row] for i, row in zip(index, views, strict=True)]
            expected = np.stack([unit(stored(root, files)).mean(axis=0) for files in shown])
        assert np.allclose(found, expected, atol=2e-3)
    assert len(photos) == PHOTOS


def test_train_stage__learns_from_objects_and_tells_what_they_find(data: RunData) -> None:
    done = train_stage(data.context)
    best = done.metrics["best"]
    assert set(best) > FIGURES
    assert "cosine_mean" in best
    assert best["queries"] == 8
    assert "map" in done.summary
    student = Student.load(data.context.folder("train"))
    assert student.input_name == "views"
    with torch.no_grad():
        assert student(torch.zeros(2, 5, 3, 32, 32)).embedding.shape == (2, DIM)


def test_baseline_stage__triplets_or_classes(root: Path, tmp_path: Path) -> None:
    context, _ = embedded(tmp_path, root, baseline={"epochs": 1, "losses": [{"kind": "triplet"}]})
    assert set(baseline_stage(context).metrics["best"]) == FIGURES
    context, _ = embedded(tmp_path / "classes", root, baseline={"epochs": 1})
    best = train_on_labels(RunData(context)).metrics["best"]
    assert {"top1", *FIGURES} <= set(best)


def test_distil__stopped_anywhere_is_uninterrupted_to_the_bit(
    with_photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes: dict[str, Any] = {"data": {"photos": "photos"}, "teacher": {"view": "assume_invariant"}}
    changes["train"] = {"augment": {"flip": 0.5, "shift_pixels": 2}, "ema": True, "epochs": 2}
    whole = data_of(tmp_path / "whole", with_photos, **changes)
    expected = distil(whole)
    broken = data_of(tmp_path / "broken", with_photos, **changes)
    plain, seen = ObjectLoader.epoch, 0

    def stopping(self: ObjectLoader, epoch: int, start_step: int = 0) -> Iterator[Any]:
        nonlocal seen
        for batch in plain(self, epoch, start_step):
            seen += 1
            if seen in (3, 8):
                raise StopError
            yield batch

    monkeypatch.setattr(ObjectLoader, "epoch", stopping)
    for _ in range(2):
        with pytest.raises(StopError):
            distil(broken)
    found = distil(broken)
    assert found.metrics == expected.metrics
    for name in ("model.safetensors", "last/model.safetensors"):
        one, other = (data.context.folder("train") / name for data in (whole, broken))
        assert one.read_bytes() == other.read_bytes()


def test_embed_stage__unreadable_views_are_left_out(tmp_path: Path) -> None:
    root = make_objects(tmp_path / "data" / "objects")
    for path in ("train/cup/cup0/1.png", "train/dog/dog1/0.png", "train/dog/dog1/2.png"):
        (root / path).write_bytes(b"no image")
    context, done = embedded(tmp_path, root, data={"val": 0.17})
    data = RunData(context)
    objects = {path: views for part in ("train", "val") for path, views in views_of(data, part)}
    assert len(objects["train/cup/cup0"]) == 3
    assert "train/dog/dog1" not in objects
    assert sum(done.metrics["images"].values()) == 4 * 6 + 4 * 2 - 1
    told = {row["path"]: row["reason"] for row in data.corrupt()}
    assert told["train/dog/dog1"] == "2 views of 4 left of 3 shown"
    assert len(told) == 4
    assert "4 unreadable ones left out" in done.summary


def views_of(data: RunData, part: Any) -> list[tuple[str, tuple[str, ...]]]:
    images = data.split(part)
    assert isinstance(images, ObjectSet)
    return list(zip(images.paths, images.views, strict=True))


def test_embed_stage__a_view_too_many_is_told_before_training(root: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a step shows 5 views, and 16 of 16 training objects have fewer"):
        data_of(tmp_path, root, train={"sampler": {"views": 5}})
    assert not (tmp_path / "run" / "embed" / "train").exists()


def test_embed_stage__photos_have_a_cache_of_their_own(with_photos: Path, tmp_path: Path) -> None:
    context, done = embedded(tmp_path, with_photos, data={"photos": "photos"})
    assert done.metrics["images"]["photos"] == PHOTOS
    assert len(EmbeddingCache.open(context.run.stage("embed") / "photos").paths) == PHOTOS


def test_distil__least_squares_start_from_single_views_and_photos(with_photos: Path, tmp_path: Path) -> None:
    changes: dict[str, Any] = {"student": {"head_init": "least_squares", "ridge": 1e-3}}
    data = data_of(tmp_path, with_photos, data={"photos": "photos"}, **changes)
    student, images = new_student(data), data.split("train")
    assert isinstance(images, ObjectSet)
    start_from_least_squares(data, student, images)
    head: Any = student.head
    singles = [images.view_images(), data.split("photos")]
    features = np.concatenate([pooled_features(student, single, label=None) for single in singles])
    names = [path for single in singles for path in single.paths]
    targets = unit(stored(with_photos, names))
    found = features @ head.weight.detach().numpy().T + head.bias.detach().numpy()
    # 70 images and fewer features: what is left over has nothing in common with any feature.
    spread = features - features.mean(axis=0)
    assert features.shape[0] == 16 * 4 + PHOTOS
    assert (
        np.abs(spread.T @ (targets - found)).max()
        < 1e-2 * np.abs(spread.T @ (targets - targets.mean(axis=0))).max()
    )
