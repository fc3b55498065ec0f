"""Figures of a model whose answers are known."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from edgeproof.evaluation.figures import Answers, accuracy, against_teacher
from edgeproof.evaluation.subject import Subject
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
