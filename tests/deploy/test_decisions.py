from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgeproof_deploy.decisions import Vocabulary, compare_decisions, margin

WORDS = tuple("abcdefg")


def vocabulary(labels: list[int]) -> Vocabulary:
    names = tuple(f"photo {i}" for i in range(len(labels)))
    return Vocabulary(WORDS, np.eye(7, dtype=np.float32), np.array(labels, np.int64), names, unseen=("b",))


def leaning(*choices: tuple[int, float]) -> np.ndarray:
    """Embeddings that point to a label's axis, and a little to the next one."""
    rows = np.zeros((len(choices), 7), np.float32)
    for row, (choice, lean) in zip(rows, choices, strict=True):
        row[choice], row[(choice + 1) % 7] = 1.0, lean
    return rows


def test_compare_decisions__identity() -> None:
    rows = leaning((0, 0.5), (1, 0.2), (2, 0.1), (3, 0.9))
    found = compare_decisions(rows, 8 * rows, vocabulary([0, 1, 2, 2]))
    assert (found.top1_agreement, found.top5_agreement, found.agreement) == (1, 1, 1)
    assert found.flips == []
    assert found.score_shift == pytest.approx(0, abs=1e-12)
    assert found.drop == 0
    assert found.interval == (0, 0)
    assert found.mcnemar_p == 1
    assert found.metrics["delta"] == dict.fromkeys(found.metrics["delta"], 0)
    assert found.metrics["reference"]["top1"] == 0.75


def test_compare_decisions__a_flip_is_listed_with_both_margins() -> None:
    reference = leaning((0, 0.6), (1, 0.2), (2, 0.1), (3, 0.9))
    candidate = reference.copy()
    candidate[0, :2] = 0.6, 1.0
    found = compare_decisions(reference, candidate, vocabulary([0, 1, -1, 3]))
    (flip,) = found.flips
    length = np.hypot(1, 0.6)
    assert flip == {
        "path": "photo 0",
        "true": "a",
        "reference": "a",
        "candidate": "b",
        "reference_margin": pytest.approx(0.4 / length),
        "candidate_margin": pytest.approx(0.4 / length),
        "tie": False,
    }
    assert found.top1_agreement == found.agreement == 0.75
    assert found.drop == pytest.approx(1 / 3)
    assert found.metrics["delta"]["top1"] == pytest.approx(-1 / 3)
    assert found.metrics["delta"]["seen"] == pytest.approx(-1 / 2)
    assert found.metrics["delta"]["unseen"] == 0
    assert found.score_shift == pytest.approx(0.4 / length)


def test_compare_decisions__a_flip_between_labels_that_tie_costs_nothing() -> None:
    reference = leaning((0, 1 - 1e-7), (1, 0.2))
    candidate = leaning((0, 1 + 1e-7), (1, 0.2))
    found = compare_decisions(reference, candidate, vocabulary([0, 1]))
    assert found.flips[0]["tie"] is True
    assert (found.top1_agreement, found.agreement, found.drop) == (0.5, 1, 0)


def test_compare_decisions__without_labels_there_is_no_accuracy() -> None:
    rows = leaning((0, 0.5), (1, 0.2))
    found = compare_decisions(rows, rows, vocabulary([-1, -1]))
    assert found.top1_agreement == 1
    assert (found.metrics, found.drop, found.interval, found.mcnemar_p) == ({}, None, None, None)


def test_compare_decisions__top_five_in_any_order() -> None:
    reference = np.array([[7, 6, 5, 4, 3, 2, 1]], np.float32)
    shuffled = np.array([[3, 4, 5, 6, 7, 2, 1]], np.float32)
    other = np.array([[7, 6, 5, 4, 2, 3, 1]], np.float32)
    assert compare_decisions(reference, shuffled, vocabulary([-1])).top5_agreement == 1
    assert compare_decisions(reference, other, vocabulary([-1])).top5_agreement == 0
    four = replace(vocabulary([-1]), names=WORDS[:4], text=np.eye(4, 7, dtype=np.float32))
    assert compare_decisions(reference, other, four).top5_agreement is None


def test_margin__one_label_only() -> None:
    assert margin(np.array([[0.3], [0.4]])).tolist() == [np.inf, np.inf]


def test_compare_decisions__every_change_has_an_interval_and_each_class_its_own() -> None:
    reference = leaning((0, 0.6), (0, 0.1), (1, 0.2), (2, 0.1), (3, 0.9))
    candidate = reference.copy()
    candidate[0, :2] = 0.6, 1.0
    candidate[4, 3:5] = 0.1, 1.0
    found = compare_decisions(reference, candidate, vocabulary([0, 0, 1, 2, 4]))
    assert set(found.intervals) == {"top1", "top5", "mean_per_class", "seen", "unseen", "harmonic_mean"}
    for name, (low, high) in found.intervals.items():
        assert low <= found.metrics["delta"][name] <= high, name
    assert found.recall_changes == [
        {"label": "a", "images": 2, "reference": 1, "candidate": 0.5, "delta": -0.5},
        {"label": "e", "images": 1, "reference": 0, "candidate": 1, "delta": 1},
    ]
    assert found.retrieval is not None
    assert found.retrieval["text_to_image"]["queries"] == 4
    assert found.retrieval["image_to_image"]["queries"] == 2


def test_compare_decisions__class_scores_are_not_searched() -> None:
    rows = leaning((0, 0.5), (1, 0.2))
    found = compare_decisions(rows, rows, replace(vocabulary([0, 1]), text=None))
    assert found.retrieval is None
    assert found.intervals["top1"] == (0, 0)
