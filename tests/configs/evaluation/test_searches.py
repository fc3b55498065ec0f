"""`evaluate` on objects: who searches where, and what is left of it."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tests.configs.small_objects import draw_objects

from edgeproof.evaluation.searches import rows_of_teacher
from edgeproof_data.gallery_folder import read_gallery
from edgeproof_train.embeddings import embed_images
from edgeproof_train.retrieval.figures import retrieval_figures
from edgeproof_train.student import Student
from edgeproof_train.students.multi_view import MultiViewStudent
from edgeproof_train.teacher import TeacherPlaces
from edgeproof_train.teachers.run import RunTeacher

Run = Callable[..., tuple[int, str, str]]
pytestmark = pytest.mark.integration


def rows_of(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as handle:
        return list(csv.DictReader(handle))


def features_of(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    labels = [row["label"] for row in rows_of(folder / "features.csv")]
    return np.load(folder / "features.npy"), np.unique(labels, return_inverse=True)[1]


def figures(edgeproof: Run, *arguments: object) -> dict[str, dict[str, Any]]:
    code, out, err = edgeproof("evaluate", *arguments, "--json", "--device", "cpu")
    assert code == 0, err
    return json.loads(out)


def test_evaluate__objects_search_each_other(object_run: Path, edgeproof: Run, tmp_path: Path) -> None:
    found = figures(edgeproof, object_run, "--out", tmp_path)
    rows, labels = features_of(tmp_path)
    assert len(rows) == 2 * 2 + 2 * 6
    hidden = np.isin(labels, [2, 3])
    for suffix, chosen in (("", np.ones(16, bool)), ("_seen", ~hidden), ("_unseen", hidden)):
        own, classes, place = rows[chosen], labels[chosen], np.arange(chosen.sum())
        for definition in ("standard", "osmn40"):
            expected = retrieval_figures(own, classes, own, classes, place, definition)
            told = {name: found["student"][f"{definition}.{name}{suffix}"] for name in expected}
            assert told == pytest.approx(expected)
    student, teacher = found["student"], found["teacher"]
    change = student["standard.map_unseen"] - teacher["standard.map_unseen"]
    assert student["standard.map_delta_unseen"] == pytest.approx(change)
    assert student["standard.map_delta_low_unseen"] <= change <= student["standard.map_delta_high_unseen"]
    kept = json.loads((tmp_path / "retrieval.json").read_text())
    assert kept["figures"]["student"]["all"]["osmn40"]["map"] == student["osmn40.map"]


def test_evaluate__keeps_curves_and_nearest_objects(object_run: Path, edgeproof: Run, tmp_path: Path) -> None:
    code, out, err = edgeproof("evaluate", object_run, "--out", tmp_path, "--device", "cpu")
    assert code == 0, err
    curves = rows_of(tmp_path / "pr_curves.csv")
    assert len(curves) == 2 * 3 * 2 * 11
    nearest = rows_of(tmp_path / "nearest.csv")
    assert len(nearest) == 16 * 10
    rows, labels = features_of(tmp_path)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    first = nearest[0]
    cosines = unit[0] @ unit.T
    cosines[0] = -1
    paths = [row["path"] for row in rows_of(tmp_path / "features.csv")]
    assert first["object"] == paths[int(cosines.argmax())]
    assert float(first["cosine"]) == pytest.approx(cosines.max(), abs=1e-5)
    assert first["right"] == ("yes" if labels[cosines.argmax()] == labels[0] else "no")
    lines = [line.split() for line in out.splitlines()]
    for protocol in ("all", "seen", "unseen"):
        for definition in ("standard", "osmn40"):
            assert [protocol, definition, "student"] in [line[:3] for line in lines]


def test_evaluate__few_views_ask(object_run: Path, edgeproof: Run, tmp_path: Path) -> None:
    found = figures(edgeproof, object_run, "--query-views", 1, "--out", tmp_path)["student"]
    from edgeproof.study.measuring import run_data
    from edgeproof_configs.run import RunDir
    from edgeproof_data.objects import ObjectSet

    objects = run_data(RunDir(object_run), "cpu").split("test")
    assert isinstance(objects, ObjectSet)
    rows, labels = features_of(tmp_path)
    one = embed_images(Student.load(object_run / "train"), objects.showing(1))
    expected = retrieval_figures(one, labels, rows, labels, np.arange(16))
    assert found["standard.map_1_view_asked"] == pytest.approx(expected["map"])
    assert found["standard.map_1_view_asked"] != found["standard.map"]
    assert "standard.map_unseen_1_view_asked" in found


def test_evaluate__another_collection(object_run: Path, edgeproof: Run, tmp_path: Path) -> None:
    other = draw_objects(tmp_path / "other", objects=2, seed=7)
    shutil.move(other / "sand", other / "mug")
    (lost, *_) = sorted((other / "mug").rglob("*.png"))
    lost.write_bytes(b"no picture")
    options = ("--gallery", other, "--out", tmp_path / "e", "--json", "--device", "cpu")
    code, out, err = edgeproof("evaluate", object_run, *options)
    assert (code, f"{lost.relative_to(other)} (" in err) == (0, True), err
    found = json.loads(out)
    for model in ("teacher", "student"):
        # The other mug has no other one to find: of 7 objects 6 ask.
        assert found[model]["standard.queries_other"] == 6
        # Sand has no class of its name there: the six objects of it do not ask.
        assert found[model]["standard.queries_to_other"] == 16 - 6
        assert found[model]["standard.map_to_other"] > 0
    assert (tmp_path / "e" / "galleries" / "other gallery" / "manifest.json").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--query-views", "4"], "queries are shown with 4 views already"),
        (["--query-views", "9"], "an object has 4 views"),
        (["--gallery", "{empty}"], "no such folder of objects"),
    ],
)
def test_evaluate__options_that_do_not_fit(
    options: list[str], words: str, object_run: Path, edgeproof: Run, tmp_path: Path
) -> None:
    given = [option.format(empty=tmp_path / "none") for option in options]
    code, _, err = edgeproof("evaluate", object_run, *given, "--device", "cpu", "--out", tmp_path)
    assert code == 2
    assert words in err
    assert len(err.splitlines()) <= 4


def test_evaluate__options_for_objects_on_images(class_run: Path, edgeproof: Run, tmp_path: Path) -> None:
    code, _, err = edgeproof("evaluate", class_run, "--query-views", "1", "--out", tmp_path)
    assert code == 2
    assert "are for labelled objects with several views" in err


def test_rows_of_teacher__a_trained_student_pools_what_it_says_of_each_view(tmp_path: Path) -> None:
    torch.manual_seed(0)
    settings = {"model": "test_resnet", "image_size": 32, "pooling": "max", "head": "mlp"}
    student = MultiViewStudent(MultiViewStudent.Config.model_validate(settings), 6).eval()
    student.save(tmp_path / "run" / "train")
    config = RunTeacher.Config(path=str(tmp_path / "run"))
    data: Any = SimpleNamespace(teacher=RunTeacher(config, TeacherPlaces(tmp_path)), parts=())
    objects = read_gallery(draw_objects(tmp_path / "other", objects=2), 4).objects
    found = rows_of_teacher(data, tmp_path / "kept")("other", objects, 3)
    expected = embed_images(student, objects.showing(3))
    np.testing.assert_allclose(found, expected, rtol=5e-3, atol=5e-3)
