from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from edgeproof_data.cache import CacheKey, CacheWriter, EmbeddingCache
from edgeproof_data.objects import ObjectSet
from edgeproof_deploy.runtime.preprocess import open_image
from edgeproof_train.embeddings import embed_images
from edgeproof_train.object_rows import StudentRows, TeacherRows
from edgeproof_train.students.multi_view import MultiViewStudent

DIM = 12
COUNTS = (6, 5, 6, 7)


@pytest.fixture
def objects(tmp_path: Path) -> ObjectSet:
    random = np.random.default_rng(0)
    views = tuple(tuple(f"{n}/{view}.png" for view in range(count)) for n, count in enumerate(COUNTS))
    for file in (file for files in views for file in files):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        Image.fromarray(random.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(tmp_path / file)
    names = tuple(str(n) for n in range(len(COUNTS)))
    return ObjectSet(tmp_path, names, np.array([0, 0, 1, 1]), ("cup", "car"), views, 4)


def make(**settings: Any) -> MultiViewStudent:
    torch.manual_seed(0)
    config = MultiViewStudent.Config.model_validate({"model": "test_resnet", "image_size": 32} | settings)
    return MultiViewStudent(config, DIM).eval()


@pytest.mark.parametrize("settings", [{"pooling": "mean"}, {"pooling": "max"}, {"pool_at": "layer2"}])
def test_student_rows__are_what_the_student_says_of_so_many_views(
    settings: dict[str, str], objects: ObjectSet
) -> None:
    student = make(**settings)
    rows = StudentRows(student)
    for views in (1, 2, 5):
        expected = embed_images(student, objects.showing(views))
        np.testing.assert_allclose(rows("test", objects, views), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(rows("test", objects), rows("test", objects, 4))
    with pytest.raises(ValueError, match="cannot show 6 views"):
        rows("test", objects, 6)


def test_student_rows__decode_and_encode_each_view_once(
    objects: ObjectSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    student = make()
    seen: list[int] = []
    encode = student.encode_views

    def counted(image: torch.Tensor) -> torch.Tensor:
        seen.append(len(image))
        return encode(image)

    opened: list[Path] = []

    def opening(source: Path) -> Image.Image:
        opened.append(source)
        return open_image(source)

    monkeypatch.setattr(student, "encode_views", counted)
    monkeypatch.setattr("edgeproof_data.pixels.open_image", opening)
    rows = StudentRows(student, folder=tmp_path / "kept")
    first = [rows("test", objects, views) for views in (1, 2, 3, 4, 5)]
    assert sum(seen) == sum(COUNTS)
    assert sorted(opened) == sorted(objects.root / view for files in objects.views for view in files)
    again = StudentRows(student, folder=tmp_path / "kept")
    np.testing.assert_array_equal(again("test", objects, 3), first[2])
    assert (sum(seen), len(opened)) == (sum(COUNTS), sum(COUNTS))


def test_student_rows__features_of_other_objects_are_made_again(objects: ObjectSet, tmp_path: Path) -> None:
    student = make()
    StudentRows(student, folder=tmp_path / "kept")("test", objects.subset([0, 1]), 2)
    found = StudentRows(student, folder=tmp_path / "kept")("test", objects, 2)
    np.testing.assert_allclose(found, embed_images(student, objects.showing(2)), rtol=1e-4, atol=1e-5)


class Pooling:
    """A teacher of which only the pooling is asked."""

    parts: tuple[int, ...] = ()
    device = torch.device("cpu")
    embedding_dim = DIM

    def pool_views(self, embeddings: torch.Tensor) -> torch.Tensor:
        return embeddings.mean(dim=1)


def test_teacher_rows__pool_the_stored_views_that_are_seen(objects: ObjectSet, tmp_path: Path) -> None:
    images = objects.view_images()
    stored = np.random.default_rng(1).normal(size=(len(images), DIM)).astype(np.float32)
    writer = CacheWriter(tmp_path / "cache", CacheKey({"kind": "made up"}, None, "none"), images, DIM)
    writer.add(np.arange(len(images)), stored, None)
    cache: EmbeddingCache = writer.finish()
    teacher: Any = Pooling()
    rows = TeacherRows(teacher, lambda name: {"test": cache}[name])
    of_each = np.split(stored, np.cumsum(COUNTS)[:-1])
    np.testing.assert_allclose(rows("test", objects), [part.mean(axis=0) for part in of_each], atol=5e-3)
    two = [part[[0, len(part) // 2]].mean(axis=0) for part in of_each]
    np.testing.assert_allclose(rows("test", objects, 2), two, atol=5e-3)
