"""Figures of a model whose answers are known."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from edgeproof.evaluation.answers import Answers
from edgeproof.evaluation.figures import (
    accuracy,
    against_teacher,
    calibration,
    label_sets,
    neighbours,
    verification,
    verified,
)
from edgeproof.evaluation.subject import Subject
from edgeproof_configs.errors import DataError
from edgeproof_data.sets import DataSource, ImageSet
from edgeproof_train.heads.classifier import ClassifierHead
from edgeproof_train.student import Student
from edgeproof_train.text import TextBank

NAMES = ("ant", "bee", "cat")


class Labels:
    """The part of a data source that scoring looks at."""

    class_names = NAMES
    unseen = ()


def answers(scores: list[list[float]], labels: list[int]) -> Answers:
    """Return class scores of images with some labels, as a student's answers."""
    subject = Subject(
        student=cast("Student", None),
        head=ClassifierHead(ClassifierHead.Config(), NAMES),
        words=TextBank(NAMES, None),
        source=cast("DataSource", Labels()),
        device="cpu",
        images=cast("Any", None),
    )
    paths = tuple(f"{i}.jpg" for i in range(len(labels)))
    images = ImageSet(Path("/photos"), paths, np.array(labels), NAMES)
    rows = np.array(scores, np.float32)
    return Answers(subject, images, rows, rows)


FOUR = [[2.0, 1.0, 0.0], [2.0, 1.0, 0.0], [0.0, 1.0, 0.0], [0.0, 2.0, 1.0]]


def test_accuracy__kappa_f1_and_auc_by_hand() -> None:
    found = accuracy(answers([*FOUR, [9.0, 0.0, 0.0]], [0, 1, 1, 2, -1]), None)
    assert found["images"] == 4
    assert found["top1"] == 0.5
    # By chance (2 * 2 + 1 * 0 + ...) of 16 agree: true (1, 2, 1), predicted (2, 2, 0).
    assert found["kappa"] == pytest.approx((0.5 - 6 / 16) / (1 - 6 / 16))
    assert found["f1_macro"] == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)
    # ant: both rows that say 2 tie, one of three others ties: (2 + 0.5) / 3; cat: first of all.
    bee = [(1, [0.2447, 0.5761]), (0, [0.2447, 0.6652])]
    pairs = [(a > b) + 0.5 * (a == b) for a in bee[0][1] for b in bee[1][1]]
    assert found["auc"] == pytest.approx(((2.5 / 3) + np.mean(pairs) + 1.0) / 3, abs=1e-6)


def test_accuracy__one_class_has_no_kappa() -> None:
    found = accuracy(answers(FOUR, [0, 0, 0, 0]), None)
    assert found["top1"] == 0.5
    assert "kappa" not in found


def test_accuracy__no_label_at_all_leaves_the_cosine() -> None:
    unlabelled = answers(FOUR, [-1, -1, -1, -1])
    assert accuracy(unlabelled, unlabelled.rows) == {"cosine_mean": pytest.approx(1.0)}


def test_certainty__is_the_softmax_of_the_heads_scores() -> None:
    assert answers(FOUR, [0, 1, 1, 2]).certainty[0] == pytest.approx(np.e**2 / (np.e**2 + np.e + 1))


def test_against_teacher__difference_and_mcnemar() -> None:
    labels = [0, 1, 1, 2]
    student, teacher = answers(FOUR, labels), answers([[0.0, 0.0, 1.0]] * 4, labels)
    found = against_teacher(student, teacher)
    assert found["teacher_agreement"] == 0
    assert found["top1_delta"] == 0.25
    low, high = found["top1_delta_low"], found["top1_delta_high"]
    assert low is not None
    assert high is not None
    assert low < 0.25 < high
    # Two images only the student has right, one only the teacher: p = 1.
    assert found["mcnemar_p"] == 1.0
    assert against_teacher(student, student)["teacher_agreement"] == 1.0


def test_calibration__without_val_there_is_no_temperature() -> None:
    found = calibration(answers(FOUR, [0, 1, 1, -1]), None)
    assert set(found) == {"ece", "ece_equal_mass", "nll", "brier"}
    assert calibration(answers(FOUR, [-1] * 4), None) == {}


def test_calibration__temperature_of_val_does_best_there() -> None:
    model = answers([[9.0, 0.0, 0.0]] * 4, [0, 0, 0, 1])
    found = calibration(model, model)
    # Three of four are right: nll is least where 1 / (1 + 2 exp(-9 / T)) = 3 / 4.
    assert found["temperature"] == pytest.approx(9 / np.log(6))
    assert found["nll_scaled"] < found["nll"]
    assert found["ece_scaled"] == pytest.approx(0, abs=1e-9)


def test_neighbours__images_without_direction_or_label_are_left_out() -> None:
    rows = [[1.0, 0.0, 0.1], [1.0, 0.0, 0.2], [0.0, 1.0, 0.0], [0.0, 1.0, 0.1], [0.0, 0.0, 0.0], [1, 1, 1]]
    found = neighbours(answers(rows, [0, 0, 1, 1, 2, -1]))
    assert found == {"knn1": 1.0}
    assert neighbours(answers(rows[:1], [0])) == {}


def test_verification__by_tables_of_labels(tmp_path: Path) -> None:
    rows = [[1.0, 0.0, 0.0], [1.0, 0.1, 0.0], [0.0, 1.0, 0.0], [0.1, 1.0, 0.0]]
    model = answers(rows, [0, 0, 1, 2])
    table = tmp_path / "coarse.csv"
    table.write_text("path,label\n0.jpg,low\n1.jpg,low\n2.jpg,high\n3.jpg,high\nother.jpg,high\n")
    labels = label_sets(model.images, {"fine": None, "coarse": table})
    assert {name: given.tolist() for name, given in labels.items()} == {
        "fine": [0, 0, 1, 2],
        "coarse": [1, 1, 0, 0],
    }
    found = verification(model, labels)
    assert found["fine"].genuine == 1
    assert found["coarse"].genuine == 2
    # Coarse: 2 genuine pairs above all 4 impostors, of which a tenth is none.
    assert verified(found) == {}
    assert found["coarse"].impostor == 4
    assert verification(model, {"one": np.zeros(4, np.int64), "all": np.arange(4)}) == {}


def test_verified__names_the_false_accept_rate() -> None:
    rng = np.random.default_rng(0)
    labels = [0] * 20 + [1] * 20
    rows = np.eye(3)[labels] + 0.3 * rng.normal(size=(40, 3))
    found = verified(verification(answers(rows.tolist(), labels), {"fine": np.array(labels)}))
    assert list(found) == ["verified_fine@0.1", "verified_fine@0.01"]
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    pairs = [(unit[i] @ unit[j], labels[i] == labels[j]) for i in range(40) for j in range(i)]
    impostors = sorted((score for score, same in pairs if not same), reverse=True)
    threshold = impostors[len(impostors) // 10]
    genuine = [score > threshold for score, same in pairs if same]
    assert found["verified_fine@0.1"] == pytest.approx(np.mean(genuine))


@pytest.mark.parametrize(
    ("text", "words"),
    [("path,label\n0.jpg,low\n", "1 image without a label: 1.jpg"), (None, "no such table")],
)
def test_label_sets__incomplete_table(text: str | None, words: str, tmp_path: Path) -> None:
    file = tmp_path / "fine.csv"
    if text is not None:
        file.write_text(text)
    with pytest.raises(DataError, match=words):
        label_sets(answers(FOUR[:2], [0, 1]).images, {"fine": file})
