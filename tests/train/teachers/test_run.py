from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from edgeproof_configs.errors import DataError, UsageError
from edgeproof_train.stored_views import pooled_by
from edgeproof_train.student import Student
from edgeproof_train.students.multi_view import MultiViewStudent
from edgeproof_train.students.timm import TimmStudent
from edgeproof_train.teacher import TeacherPlaces
from edgeproof_train.teachers.ensemble import EnsembleTeacher
from edgeproof_train.teachers.run import RunTeacher

DIM, SIDE = 6, 32
CLASSES = tuple(f"class {number}" for number in range(DIM))


def saved(folder: Path, kind: Any = MultiViewStudent, classes: tuple[str, ...] = (), **settings: Any) -> Any:
    torch.manual_seed(0)
    config = kind.Config.model_validate({"model": "test_resnet", "image_size": SIDE, **settings})
    student: Student = kind(config, DIM).eval()
    student.classes = classes
    student.save(folder / "train")
    return student


def teacher_of(folder: Path, **settings: Any) -> RunTeacher:
    return RunTeacher(
        RunTeacher.Config.model_validate({"path": str(folder), **settings}), TeacherPlaces(folder)
    )


def views(count: int = 4) -> Tensor:
    return torch.randn(3, count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(count))


def of_objects(teacher: RunTeacher, given: Tensor) -> Tensor:
    """Return what the chain makes of views: each encoded by itself and stored, then pooled."""
    stored = teacher.per_view().encode_image(given.flatten(0, 1))
    return pooled_by(teacher, stored.unflatten(0, given.shape[:2]))


@pytest.mark.parametrize("pooling", ["max", "mean", "attention"])
def test_per_view__pooled_features_are_what_the_student_says_of_the_object(
    pooling: str, tmp_path: Path
) -> None:
    student = saved(tmp_path, pooling=pooling, head="mlp")
    teacher = teacher_of(tmp_path)
    each = teacher.per_view()
    assert each.embedding_dim == student.pooled(views(1)).shape[1]
    assert each.identity() != teacher.identity()
    for count in (1, 5):
        with torch.no_grad():
            expected = student(views(count)).embedding
        torch.testing.assert_close(of_objects(teacher, views(count)), expected)
    torch.testing.assert_close(teacher.encode_image(views(1)[:, 0]), of_objects(teacher, views(1)))


def test_per_view__of_class_scores(tmp_path: Path) -> None:
    student = saved(tmp_path, classes=CLASSES)
    teacher = teacher_of(tmp_path)
    with torch.no_grad():
        outputs, pooled = student(views()), student.pooled(views())
    torch.testing.assert_close(of_objects(teacher, views()), pooled)
    teacher.give_class_scores(CLASSES)
    torch.testing.assert_close(of_objects(teacher, views()), outputs.logits)


def test_per_view__a_student_of_single_images_is_pooled_as_the_recipe_says(tmp_path: Path) -> None:
    student = saved(tmp_path, TimmStudent)
    teacher = teacher_of(tmp_path, view_pooling="max")
    assert teacher.per_view() is teacher
    with torch.no_grad():
        each = torch.nn.functional.normalize(student(views().flatten(0, 1)).embedding, dim=1)
    torch.testing.assert_close(of_objects(teacher, views()), each.unflatten(0, (3, 4)).amax(dim=1))


def test_per_view__refuses_what_cannot_be_stored(tmp_path: Path) -> None:
    saved(tmp_path, pool_at="layer2")
    with pytest.raises(UsageError, match="pools views within its network"):
        teacher_of(tmp_path).per_view()


def test_per_view__refuses_another_pooling_than_it_has_learnt(tmp_path: Path) -> None:
    saved(tmp_path)
    with pytest.raises(UsageError, match="view_pooling has no effect"):
        teacher_of(tmp_path, view_pooling="max").per_view()


def test_per_view__not_among_several_teachers(tmp_path: Path) -> None:
    saved(tmp_path / "one")
    saved(tmp_path / "two", TimmStudent)
    members = [RunTeacher.Config(path=str(tmp_path / name)) for name in ("one", "two")]
    alone = EnsembleTeacher(EnsembleTeacher.Config(members=tuple(members)), TeacherPlaces(tmp_path))
    with pytest.raises(UsageError, match=r"members\.0 pools the views"):
        alone.per_view()
    fine = EnsembleTeacher.Config(members=(members[1], members[1]))
    teacher = EnsembleTeacher(fine, TeacherPlaces(tmp_path))
    assert teacher.per_view() is teacher


@pytest.mark.parametrize("pooling", ["max", "attention"])
def test_object_tokens__are_those_that_the_student_pools(pooling: str, tmp_path: Path) -> None:
    student = saved(tmp_path, pooling=pooling, tokens=True)
    teacher = teacher_of(tmp_path)
    assert teacher.token_shape == student.token_shape == (2, DIM)
    with torch.no_grad():
        expected = student(views()).tokens
    torch.testing.assert_close(teacher.object_tokens(views()), expected)
    # The first is the embedding, which is what is pooled from stored features as well.
    torch.testing.assert_close(teacher.object_tokens(views())[:, 0], of_objects(teacher, views()))
    torch.testing.assert_close(teacher.encode_tokens(views(1)[:, 0]), teacher.object_tokens(views(1)))
    assert not teacher.object_tokens(views()).requires_grad


@pytest.mark.parametrize("settings", [{}, {"tokens": True, "classes": CLASSES}])
def test_object_tokens__refused_in_words_where_there_are_none(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    saved(tmp_path, **settings)
    with pytest.raises(UsageError, match="'run' gives no tokens here") as caught:
        teacher_of(tmp_path).object_tokens(views())
    assert "tokens: true" in str(caught.value.fix)


def test_run__nothing_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no trained student here"):
        teacher_of(tmp_path)
