"""Decisions where a fitted head decides, and not the nearest words."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgeproof_deploy.decisions import TIE_MARGIN, Vocabulary, compare_decisions
from edgeproof_deploy.gates import Limits
from edgeproof_deploy.parity import Form, compare_pair
from edgeproof_deploy.runtime.linear_head import LinearHead

WORDS = ("a", "b", "c")
TURNED = LinearHead(WORDS, np.eye(3, dtype=np.float32)[[1, 2, 0]], None, 10.0)
"""Answers with the label before the one whose axis an embedding points to."""


def vocabulary(labels: list[int], **heads: LinearHead) -> Vocabulary:
    paths = tuple(f"{i}.png" for i in range(len(labels)))
    plain = Vocabulary(WORDS, np.eye(3, dtype=np.float32), np.array(labels, np.int64), paths)
    return replace(plain, **heads)


def pointing(*axes: int) -> np.ndarray:
    rows = np.full((len(axes), 3), 0.1, np.float32)
    rows[np.arange(len(axes)), axes] = 1
    return rows


def test_compare_decisions__the_head_decides() -> None:
    rows = pointing(0, 1, 2)
    by_words, by_head = vocabulary([0, 1, 2]), vocabulary([0, 1, 2], head=TURNED)
    assert compare_decisions(rows, rows, by_words).metrics["candidate"]["top1"] == 1
    assert compare_decisions(rows, rows, by_head).metrics["candidate"]["top1"] == 0
    assert by_head.scores(rows).argmax(axis=1).tolist() == [2, 0, 1]
    assert not by_head.class_scores


def test_metrics__of_a_head_and_the_cosine_to_the_teacher() -> None:
    found = vocabulary([2, 0, 0], head=TURNED).metrics(pointing(0, 1, 2), pointing(0, 1, 2))
    assert found["top1"] == pytest.approx(2 / 3)
    assert found["cosine_mean"] == pytest.approx(1)


def test_ties__are_measured_by_the_size_of_the_scores() -> None:
    labels = vocabulary([0, 0], head=TURNED)
    scores = np.array([[1000.0, 1000.0 - 500 * TIE_MARGIN, 0], [1.0, 1.0 - 500 * TIE_MARGIN, 0]])
    assert labels.ties(scores).tolist() == [True, False]


def test_compare_pair__the_teacher_answers_by_its_own_head() -> None:
    words = vocabulary([0, 1, 2], head=TURNED, teacher_head=LinearHead(WORDS, np.eye(3, dtype=np.float32)))
    teacher = Form("teacher", embeddings=pointing(0, 1, 2))
    student = Form("student", "pytorch", embeddings=pointing(1, 2, 0))
    found = compare_pair(teacher, student, Limits(), words)
    assert found.decisions is not None
    assert found.decisions.metrics["reference"]["top1"] == 1
    assert found.decisions.metrics["candidate"]["top1"] == 1
    assert found.decisions.top1_agreement == 1
    among = compare_pair(student, student, Limits(), words)
    assert among.decisions is not None
    assert among.decisions.metrics["reference"]["top1"] == 1


def test_compare_decisions__a_head_of_images_alone_has_no_words_to_search_with() -> None:
    labels = Vocabulary(WORDS, None, np.array([0, 0, 1, 1]), tuple("wxyz"), (), TURNED)
    found = compare_decisions(pointing(0, 0, 1, 1), pointing(0, 0, 1, 1), labels)
    assert found.retrieval is not None
    assert set(found.retrieval) == {"image_to_image", "image_to_index"}
    assert found.retrieval["image_to_image"]["recall"]["1"]["candidate"] == 1
