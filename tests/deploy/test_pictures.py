"""What the verification leaves for the report, of runs that are trained for a moment."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from tests.integration import tiny

from edgeproof.evaluation.answers import of_student
from edgeproof.evaluation.figures import neighbours
from edgeproof.evaluation.subject import of_run
from edgeproof.processes import ALONE
from edgeproof.ship import ship
from edgeproof_configs.files import FileTable
from edgeproof_configs.loader import load_recipe
from edgeproof_configs.run import RunDir
from edgeproof_configs.stage import StageContext
from edgeproof_deploy.answers import Answers
from edgeproof_deploy.decisions import Vocabulary
from edgeproof_deploy.gates import at_most
from edgeproof_deploy.pictures import write_pictures
from edgeproof_deploy.preprocessing_parity import PreprocessingParity
from edgeproof_deploy.verify import Verification
from edgeproof_train.embeddings import embed_images, pooled_features
from edgeproof_train.run_data import RunData
from edgeproof_train.student import Student

pytestmark = pytest.mark.integration
CLASSIFIER: dict[str, Any] = {
    "teacher": {"kind": "none"},
    "losses": [{"kind": "cross_entropy"}],
    "baseline": None,
    "head": {"kind": "classifier"},
}


class Case(NamedTuple):
    data: RunData
    found: Verification


def case_of(folder: Path, overrides: list[str], **changes: Any) -> Case:
    """Train a tiny recipe, and answer its test images."""
    recipe = tiny.make_recipe(folder, tiny.make_data(folder / "data"), **changes)
    run = folder / "run"
    assert ship(str(recipe), overrides=overrides, run=run, until="train") == 0
    context = StageContext(
        load_recipe(str(recipe), overrides).recipe, RunDir(run), "cpu", False, FileTable(run / "files.tsv")
    )
    data = RunData(context)
    images, words = data.split("test"), data.words()
    vocabulary = Vocabulary(
        words.names, words.matrix, data.word_labels(images), images.paths, ("red square",)
    )
    same = PreprocessingParity(0, (), 0.0, 0.0, None, at_most("preprocessing", 0.0, 0.0))
    rows = embed_images(Student.load(context.run.stage("train")), images)
    return Case(data, Verification(len(images), vocabulary, same, embeddings=rows, shipped="pytorch fp32"))


@pytest.fixture(scope="module")
def zero_shot(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return case_of(tmp_path_factory.mktemp("zero"), ["train.epochs=1", "head.logit_scale=7"])


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return case_of(tmp_path_factory.mktemp("scores"), ["train.epochs=1"], **CLASSIFIER)


def written(case: Case, folder: Path) -> dict[str, Any]:
    """Return the contents of the files by name."""
    return {file.stem: json.loads(file.read_text()) for file in write_pictures(case.data, case.found, folder)}


def softmax(logits: np.ndarray) -> np.ndarray:
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shares / shares.sum(axis=1, keepdims=True)


def check(files: dict[str, Any], case: Case, logits: np.ndarray) -> None:
    """Compare the files with class scores (N, K)."""
    names, true = case.found.vocabulary.names, case.found.vocabulary.labels
    shares, right = softmax(logits), logits.argmax(axis=1) == true
    assert set(files) == {"examples", "confusion", "per_class", "calibration", "embedding"}
    assert files["calibration"]["accuracy"] == pytest.approx(right.mean())
    assert files["calibration"]["confidence"] == pytest.approx(shares.max(axis=1).mean(), abs=1e-5)
    assert np.trace(files["confusion"]["matrix"]) == right.sum()
    recalls = {row["name"]: row["recall"] for row in files["per_class"]["classes"]}
    for label, name in enumerate(names):
        assert recalls[name] == pytest.approx(right[true == label].mean(), abs=1e-6)
    for example in files["examples"]:
        row = shares[case.found.vocabulary.paths.index(example["path"])]
        expected = sorted(zip(row, names, strict=True), reverse=True)
        assert [share for _, share in example["top"]] == pytest.approx([one for one, _ in expected], abs=2e-4)
        assert example["top"][0][0] == expected[0][1]
        assert example["seen"] == (example["true"] != "red square")


def test_write_pictures__zero_shot_with_a_scale_of_its_own(zero_shot: Case, tmp_path: Path) -> None:
    text, rows = zero_shot.found.vocabulary.text, zero_shot.found.embeddings
    assert text is not None
    files = written(zero_shot, tmp_path)
    check(files, zero_shot, 7 * tiny.unit(rows) @ tiny.unit(text).T)
    space = files["embedding"]
    assert (space["space"], space["dimensions"], space["images"]) == ("embeddings", 16, 18)
    assert [space["labels"][place] for place in space["label"]] == [
        zero_shot.found.vocabulary.names[label] for label in zero_shot.found.vocabulary.labels
    ]
    assert space["unseen"] == ["red square"]
    assert space["knn"]["neighbours"] == 5


def test_write_pictures__class_scores(classifier: Case, tmp_path: Path) -> None:
    files = written(classifier, tmp_path)
    check(files, classifier, classifier.found.embeddings)
    assert (files["embedding"]["space"], files["embedding"]["dimensions"]) == ("class scores", 3)


def test_write_pictures__neighbours_are_those_of_evaluate(
    zero_shot: Case, classifier: Case, tmp_path: Path
) -> None:
    for case in (zero_shot, classifier):
        subject = of_run(case.data.context.run, "cpu", ALONE)
        expected = neighbours(of_student(subject, subject.images("test")))
        knn = written(case, tmp_path)["embedding"]["knn"]
        assert {"knn1": knn["nearest"], "knn5": knn["accuracy"]} == expected
        assert knn["images"] == 18


def test_nearest_neighbours__of_class_scores_look_at_what_the_classifier_reads(classifier: Case) -> None:
    answers = Answers(classifier.data, classifier.found)
    chosen = np.array([17, 0, 4])
    student = Student.load(classifier.data.context.run.stage("train"))
    rows = answers.features(chosen)
    assert rows.shape[1] != classifier.found.embeddings.shape[1]
    expected = pooled_features(student, classifier.data.split("test"))[chosen]
    np.testing.assert_allclose(rows, expected, rtol=1e-5, atol=1e-6)


def test_write_pictures__six_examples_have_a_heat_map(zero_shot: Case, tmp_path: Path) -> None:
    maps = [example["cam"] for example in written(zero_shot, tmp_path)["examples"] if "cam" in example]
    assert len(maps) >= 3
    assert all(cam["node"] == "layer2" and cam["cells"] == [4, 4] for cam in maps)
    assert all(len(cam["jpeg"]) < 6000 for cam in maps)


def test_write_pictures__unlabelled_images(zero_shot: Case, tmp_path: Path) -> None:
    found, vocabulary = zero_shot.found, zero_shot.found.vocabulary
    labels = np.full_like(vocabulary.labels, -1)
    blank = Vocabulary(vocabulary.names, vocabulary.text, labels, vocabulary.paths)
    unlabelled = Verification(found.images, blank, found.preprocessing, embeddings=found.embeddings)
    files = written(Case(zero_shot.data, unlabelled), tmp_path)
    assert set(files) == {"examples", "embedding"}
    assert files["embedding"]["labels"] == [None]
    assert files["embedding"]["knn"] is None
    assert {example["true"] for example in files["examples"]} == {None}


def test_write_pictures__very_many_labels_are_not_counted_against_one_another(
    zero_shot: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgeproof_deploy.pictures.MOST_CONFUSED", 2)
    files = written(zero_shot, tmp_path)
    assert set(files) == {"examples", "per_class", "calibration", "embedding"}
