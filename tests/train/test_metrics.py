from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, confusion_matrix, top_k_accuracy_score
from torchmetrics.functional.classification import multiclass_accuracy

from edgeproof_train import metrics
from edgeproof_train.metrics import (
    classifier_metrics,
    confusion,
    cosine,
    harmonic_mean,
    mean_per_class,
    nearest,
    ranks,
    topk_accuracy,
    zero_shot_metrics,
)


def scores_and_labels(rows: int = 300, classes: int = 9, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, classes, rows)
    scores = generator.normal(size=(rows, classes))
    scores[np.arange(rows), labels] += 1
    return scores, labels


@pytest.mark.parametrize("k", [1, 3, 5, 9])
def test_topk_accuracy__matches_scikit_learn_and_torchmetrics(k: int) -> None:
    scores, labels = scores_and_labels()
    ours = topk_accuracy(scores, labels, k)
    with warnings.catch_warnings():
        # scikit-learn warns that k = K is always 1, which is what is tested here.
        warnings.simplefilter("ignore", UserWarning)
        assert ours == pytest.approx(top_k_accuracy_score(labels, scores, k=k, labels=np.arange(9)))
    theirs = multiclass_accuracy(
        torch.from_numpy(scores), torch.from_numpy(labels), 9, average="micro", top_k=k
    )
    assert ours == pytest.approx(theirs.item(), abs=1e-6)


def test_topk_accuracy__ties_are_decided_by_position() -> None:
    equal = np.zeros((3, 3))
    assert ranks(equal, np.array([0, 1, 2])).tolist() == [0, 1, 2]
    assert topk_accuracy(equal, np.array([0, 1, 2]), 1) == pytest.approx(1 / 3)
    assert topk_accuracy(equal, np.array([0, 1, 2]), 2) == pytest.approx(2 / 3)


def test_topk_accuracy__more_than_all_classes() -> None:
    with pytest.raises(ValueError, match="top-4 needs at least 4 classes, got 3"):
        topk_accuracy(np.zeros((2, 3)), np.array([0, 1]), 4)


def test_ranks__what_cannot_be_counted() -> None:
    with pytest.raises(ValueError, match="NaN"):
        ranks(np.array([[np.nan, 1.0]]), np.array([0]))
    with pytest.raises(ValueError, match="labels must be 0 to 1"):
        ranks(np.zeros((2, 2)), np.array([0, 2]))
    with pytest.raises(ValueError, match=r"expected scores \(N, K\)"):
        ranks(np.zeros((2, 2)), np.array([0]))


def test_mean_per_class__matches_scikit_learn_over_the_classes_present() -> None:
    scores, labels = scores_and_labels()
    labels[labels == 4] = 3
    predicted = scores.argmax(axis=1)
    with warnings.catch_warnings():
        # Class 4 is predicted and never true: scikit-learn says so, and leaves it out as we do.
        warnings.simplefilter("ignore", UserWarning)
        expected = balanced_accuracy_score(labels, predicted)
    assert mean_per_class(labels, predicted) == pytest.approx(expected)


def test_mean_per_class__the_true_labels_come_first() -> None:
    assert mean_per_class(np.array([0, 0, 0, 1]), np.array([0, 0, 0, 0])) == 0.5
    assert mean_per_class(np.array([0, 0, 0, 0]), np.array([0, 0, 0, 1])) == 0.75


def test_confusion__matches_scikit_learn() -> None:
    scores, labels = scores_and_labels(classes=6)
    predicted = scores.argmax(axis=1)
    assert np.array_equal(
        confusion(labels, predicted, 7), confusion_matrix(labels, predicted, labels=np.arange(7))
    )


def test_cosine__by_hand() -> None:
    found = cosine(np.array([[3.0, 4.0], [1, 0], [0, 0]]), np.array([[5.0, 0.0], [-2, 0], [1, 1]]))
    np.testing.assert_allclose(found, [0.6, -1, 0])


def test_harmonic_mean__by_hand() -> None:
    assert harmonic_mean(0.899, 0.436) == pytest.approx(0.587, abs=5e-4)
    assert harmonic_mean(0, 0) == 0


def test_classifier_metrics__seen_and_unseen_by_hand() -> None:
    # Classes a, b seen, c unseen. All three are candidates for every image.
    names, labels = ("a", "b", "c"), np.array([0, 0, 1, 2, 2, 2, -1])
    predicted = np.array([0, 2, 1, 2, 0, 0, 0])
    found = classifier_metrics(np.eye(3)[predicted], labels, names, unseen={"c"})
    assert found == pytest.approx(
        {
            "images": 6,
            "top1": 3 / 6,
            "mean_per_class": (0.5 + 1 + 1 / 3) / 3,
            "seen": 0.75,
            "unseen": 1 / 3,
            "harmonic_mean": 2 * 0.75 / 3 / (0.75 + 1 / 3),
        }
    )


def test_classifier_metrics__no_held_out_class_among_the_labels() -> None:
    scores, labels = scores_and_labels(classes=6)
    found = classifier_metrics(scores, labels, list("abcdef"), unseen={"z"})
    assert set(found) == {"images", "top1", "top5", "mean_per_class"}
    assert found["top5"] >= found["top1"]


def test_classifier_metrics__nothing_labelled() -> None:
    with pytest.raises(ValueError, match="no image has a label"):
        classifier_metrics(np.zeros((2, 2)), np.array([-1, -1]), ("a", "b"))
    with pytest.raises(ValueError, match="a column for each name"):
        classifier_metrics(np.zeros((2, 2)), np.array([0, 1]), ("a", "b", "c"))


def test_zero_shot_metrics__is_the_classifier_of_cosines() -> None:
    generator = np.random.default_rng(0)
    images, text = generator.normal(size=(50, 8)), generator.normal(size=(6, 8))
    labels = generator.integers(-1, 6, 50)
    teacher = images + generator.normal(size=images.shape)
    found = zero_shot_metrics(1000 * images, labels, text, list("abcdef"), teacher_ND=teacher)
    unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (images, text, teacher)]
    expected = classifier_metrics(unit[0] @ unit[1].T, labels, list("abcdef"))
    expected["cosine_mean"] = float((unit[0] * unit[2]).sum(axis=1).mean())
    assert found == pytest.approx(expected)


def test_zero_shot_metrics__unlabelled_images_still_have_a_cosine() -> None:
    found = zero_shot_metrics(np.eye(3), np.full(3, -1), np.eye(3), ("a", "b", "c"), teacher_ND=np.eye(3))
    assert found == {"cosine_mean": 1.0}


@pytest.mark.parametrize("with_text", [True, False])
def test_zero_shot_metrics__in_blocks_of_rows_are_the_same(
    with_text: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = np.random.default_rng(1)
    images, text = generator.normal(size=(31, 8)), generator.normal(size=(8, 8)) if with_text else None
    labels = generator.integers(-1, 8, 31)
    whole = zero_shot_metrics(images, labels, text, list("abcdefgh"), unseen=("b", "g"))
    best = nearest(text, images)
    monkeypatch.setattr(metrics, "BLOCK_SCORES", 50)
    widest = 0

    def watched(scores: np.ndarray, truth: np.ndarray) -> np.ndarray:
        nonlocal widest
        widest = max(widest, scores.size)
        return ranks(scores, truth)

    monkeypatch.setattr(metrics, "ranks", watched)
    assert zero_shot_metrics(images, labels, text, list("abcdefgh"), unseen=("b", "g")) == whole
    assert np.array_equal(nearest(text, images), best)
    assert widest <= 50


def test_zero_shot_metrics__a_name_for_each_candidate() -> None:
    with pytest.raises(ValueError, match="expected 3 names"):
        zero_shot_metrics(np.eye(3), np.arange(3), np.eye(3), ("a", "b"))
