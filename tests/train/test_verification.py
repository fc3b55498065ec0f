from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
from sklearn.metrics import roc_curve

from edgeproof_train.metrics import unit_rows
from edgeproof_train.verification import ordered, score_of, verification_rates

RATES = (0.5, 1e-1, 1e-2, 1e-3)


def drawn(seed: int, images: int = 150, dim: int = 12, classes: int = 9) -> tuple[np.ndarray, np.ndarray]:
    """Return embeddings that lie around a direction for each class, and the classes."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, classes, images)
    centres = generator.normal(size=(classes, dim))
    return centres[labels] + 1.5 * generator.normal(size=(images, dim)), labels


def signs(seed: int, images: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return vectors of 16 signs: their cosines are exact, and there are only 17 of them."""
    generator = np.random.default_rng(seed)
    return generator.choice([-1.0, 1.0], (images, 16)), generator.integers(0, classes, images)


def pairs_of(embeddings: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return all scores and whether they are genuine."""
    rows = unit_rows(embeddings).astype(np.float32)
    above = np.triu_indices(len(rows), 1)
    return (rows @ rows.T)[above], (labels[:, None] == labels[None, :])[above]


def brute(scores: np.ndarray, genuine: np.ndarray, far: float) -> float | None:
    """Return the rate by trying every score as a threshold."""
    impostors = scores[~genuine]
    if far * len(impostors) < 1:
        return None
    best = 0.0
    for threshold in np.unique(scores):
        if (impostors >= threshold).mean() <= far:
            best = max(best, float((scores[genuine] >= threshold).mean()))
    return best


@pytest.mark.parametrize("seed", range(4))
def test_verification_rates__equal_brute_force(seed: int) -> None:
    embeddings, labels = drawn(seed, images=70)
    scores, genuine = pairs_of(embeddings, labels)
    found = verification_rates(embeddings, {"fine": labels}, false_accept_rates=RATES, block=256)["fine"]
    assert (found.genuine, found.impostor) == (genuine.sum(), (~genuine).sum())
    assert found.rates == {far: brute(scores, genuine, far) for far in RATES}
    for far, threshold in found.thresholds.items():
        assert (scores[genuine] > threshold).mean() == found.rates[far]
        assert (scores[~genuine] > threshold).mean() <= far


@pytest.mark.parametrize("block", [3, 7, 40, 100])
def test_verification_rates__ties_and_blocks(block: int) -> None:
    embeddings, labels = signs(0, 41, 4)
    scores, genuine = pairs_of(embeddings, labels)
    found = verification_rates(embeddings, {"": labels}, false_accept_rates=RATES, block=block)[""]
    assert found.rates == {far: brute(scores, genuine, far) for far in RATES}


def test_verification_rates__match_scikit_learn() -> None:
    embeddings, labels = drawn(9, images=200)
    scores, genuine = pairs_of(embeddings, labels)
    accepted, right, _ = roc_curve(genuine, scores, drop_intermediate=False)
    found = verification_rates(embeddings, {"": labels}, false_accept_rates=RATES)[""]
    for far in RATES:
        assert found.rates[far] == pytest.approx(right[accepted <= far].max())


def test_verification_rates__coarse_and_fine_labels() -> None:
    embeddings, fine = drawn(3)
    coarse = fine // 3
    found = verification_rates(embeddings, {"coarse": coarse, "fine": fine}, false_accept_rates=(0.01,))
    assert found["coarse"].genuine > found["fine"].genuine
    for name, labels in (("coarse", coarse), ("fine", fine)):
        assert found[name].rates[0.01] == brute(*pairs_of(embeddings, labels), 0.01)


def test_verification_rates__what_cannot_be_resolved() -> None:
    embeddings, labels = signs(1, 30, 3)
    scores, genuine = pairs_of(embeddings, labels)
    few = 1 / (~genuine).sum()
    found = verification_rates(embeddings, {"": labels}, false_accept_rates=(1.0, few, 0.99 * few))[""]
    assert found.rates[1.0] == 1
    assert found.thresholds[1.0] == -math.inf
    assert found.rates[few] == brute(scores, genuine, few)
    assert found.rates[0.99 * few] is None
    assert list(found.to_dict()["rates"].values())[-1] == "unresolvable"


def test_verification_rates__images_without_a_label_are_left_out() -> None:
    embeddings, labels = drawn(5)
    hidden = np.where(np.arange(len(labels)) % 3, labels, -1)
    kept = hidden >= 0
    found = verification_rates(embeddings, {"": hidden})[""]
    assert found == verification_rates(embeddings[kept], {"": labels[kept]})[""]


def test_verification_rates__blind_to_length_and_perfect_when_apart() -> None:
    embeddings, labels = (
        np.eye(4)[[0, 0, 1, 1, 2, 3]] * np.arange(1, 7)[:, None],
        np.array([0, 0, 1, 1, 2, 3]),
    )
    found = verification_rates(embeddings, {"": labels}, false_accept_rates=(0.1, 0.5))[""]
    assert found.rates == {0.1: 1.0, 0.5: 1.0}
    assert found.thresholds == {0.1: 0.0, 0.5: 0.0}


def test_verification_rates__memory_is_that_of_a_block() -> None:
    embeddings, labels = drawn(0, images=1500)
    tracemalloc.start()
    verification_rates(embeddings, {"": labels}, false_accept_rates=(1e-2,), block=64)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6_000_000  # the scores alone would be 9 MB


@pytest.mark.parametrize(
    ("embeddings", "labels", "message"),
    [
        (np.full((3, 2), np.nan), np.zeros(3, int), "not finite"),
        (np.ones((3, 2)), np.zeros(4, int), r"expected labels \(3,\), got \(4,\)"),
        (np.ones((3, 2)), np.arange(3), "no two images"),
    ],
)
def test_verification_rates__bad_input(embeddings: np.ndarray, labels: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        verification_rates(embeddings, {"fine": labels})
    with pytest.raises(ValueError, match="between 0 and 1"):
        verification_rates(np.ones((3, 2)), {"": np.zeros(3, int)}, false_accept_rates=(0.0,))


def test_ordered__keeps_the_order_and_can_be_undone() -> None:
    scores = np.array(
        [-1, -0.5, -1e-30, -0.0, 0.0, 1e-30, 0.5, np.nextafter(np.float32(0.5), 1), 1], np.float32
    )
    keys = ordered(scores)
    assert (np.diff(keys) > 0).tolist() == [True, True, True, False, True, True, True, True]
    assert [score_of(int(key)) for key in keys] == scores.tolist()
