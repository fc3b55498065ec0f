from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from edgeproof_train.knn import fair_neighbours, knn_metrics, knn_votes, nearest

CLASSES = 5


def drawn(seed: int, images: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, CLASSES, images)
    centres = np.random.default_rng(99).normal(size=(CLASSES, 6))
    return centres[labels] + generator.normal(size=(images, 6)), labels


def oracle(k: int, temperature: float) -> KNeighborsClassifier:
    def vote(distance: np.ndarray) -> np.ndarray:
        return np.exp((1 - distance) / temperature)

    rule: Any = vote
    return KNeighborsClassifier(k, metric="cosine", weights=rule, algorithm="brute")


@pytest.mark.parametrize("block", [1, 17, 1024])
@pytest.mark.parametrize(("k", "temperature"), [(1, 0.07), (20, 0.07), (7, 0.5)])
def test_knn_votes__match_scikit_learn(k: int, temperature: float, block: int) -> None:
    (gallery, labels), (queries, _) = drawn(0, 120), drawn(1, 40)
    votes = knn_votes(gallery, labels, queries, classes=CLASSES, k=k, temperature=temperature, block=block)
    expected = oracle(k, temperature).fit(gallery, labels).predict_proba(queries)
    np.testing.assert_allclose(votes / votes.sum(axis=1, keepdims=True), expected, atol=1e-9)


@pytest.mark.parametrize("block", [9, 1024])
def test_knn_votes__leave_one_out_asks_the_others(block: int) -> None:
    gallery, labels = drawn(2, 60)
    votes = knn_votes(gallery, labels, classes=CLASSES, k=5, block=block)
    for row in range(60):
        others = np.arange(60) != row
        alone = knn_votes(gallery[others], labels[others], gallery[row : row + 1], classes=CLASSES, k=5)
        np.testing.assert_allclose(votes[row], alone[0], rtol=1e-9)


def test_knn_votes__by_hand() -> None:
    gallery = np.array([[1.0, 0.0], [0.0, 3.0], [0.6, 0.8]])
    votes = knn_votes(gallery, np.array([0, 1, 1]), np.array([[2.0, 0.0]]), classes=3, k=2, temperature=0.5)
    np.testing.assert_allclose(votes, [[1, np.exp((0.6 - 1) / 0.5), 0]])


def test_knn_votes__small_temperatures_do_not_overflow() -> None:
    gallery, labels = drawn(3, 30)
    votes = knn_votes(gallery, labels, classes=CLASSES, k=3, temperature=1e-4)
    assert np.isfinite(votes).all()
    assert (votes.max(axis=1) >= 1).all()


def test_knn_metrics__queries_and_purity() -> None:
    (gallery, labels), (queries, wanted) = drawn(4, 150), drawn(5, 80)
    found = knn_metrics(gallery, labels, queries, wanted, classes=CLASSES)
    for k in (1, 20):
        expected = oracle(k, 0.07).fit(gallery, labels).score(queries, wanted)
        assert found[f"knn{k}"] == pytest.approx(expected)
    assert knn_metrics(np.repeat(gallery, 2, axis=0), np.repeat(labels, 2), classes=CLASSES, k=1) == {
        "knn1": 1
    }
    purity = knn_metrics(gallery, labels, classes=CLASSES)
    assert 0.3 < purity["knn1"] < purity["knn20"] < 1


def test_knn_metrics__leaves_out_what_has_no_label() -> None:
    (gallery, labels), (queries, wanted) = drawn(6, 90), drawn(7, 30)
    some, asked = np.where(np.arange(90) % 4, labels, -1), np.where(np.arange(30) % 4, wanted, -1)
    found = knn_metrics(gallery, some, queries, asked, classes=CLASSES)
    kept, kept_queries = some >= 0, asked >= 0
    expected = knn_metrics(
        gallery[kept], labels[kept], queries[kept_queries], wanted[kept_queries], classes=CLASSES
    )
    assert found == expected


def test_nearest__equal_scores_by_position() -> None:
    scores = np.array([[1, 3, 3, 3, 2], [5, 5, 5, 5, 5]], float)
    assert nearest(scores, 2).tolist() == [[1, 2], [0, 1]]
    assert nearest(scores, 4).tolist() == [[1, 2, 3, 4], [0, 1, 2, 3]]


def test_knn__bad_input() -> None:
    gallery, labels = drawn(0, 10)
    with pytest.raises(ValueError, match="k must be 1 to 9"):
        knn_votes(gallery, labels, classes=CLASSES, k=10)
    assert knn_votes(gallery, labels, gallery, classes=CLASSES, k=10).shape == (10, CLASSES)
    with pytest.raises(ValueError, match="label from 0 to 1"):
        knn_votes(gallery, np.full(10, 2), classes=2, k=1)
    with pytest.raises(ValueError, match=r"gallery: .* zero or not finite"):
        knn_votes(np.zeros((10, 3)), labels, classes=CLASSES, k=1)
    with pytest.raises(ValueError, match="go together"):
        knn_metrics(gallery, labels, gallery, classes=CLASSES, k=1)


def test_fair_neighbours__never_more_than_a_class_has_others() -> None:
    assert fair_neighbours(np.array([0, 0, 0, 1, 1, -1, -1, -1, -1])) == 2
    assert fair_neighbours(np.zeros(50, int)) == 20
    assert fair_neighbours(np.arange(4)) == fair_neighbours(np.array([-1, -1])) == 0
