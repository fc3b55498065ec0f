from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, ndcg_score
from torchmetrics.retrieval import RetrievalHitRate, RetrievalMAP, RetrievalNormalizedDCG

from edgeproof_train.retrieval.figures import (
    DEFINITIONS,
    Definition,
    query_measures,
    relevant_ranks,
    retrieval_figures,
)


def drawn(seed: int, items: int, classes: int = 6, noise: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, items)
    centres = np.random.default_rng(99).normal(size=(classes, 24))
    return centres[labels] + noise * random.normal(size=(items, 24)) * 2, labels


def scores(queries: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    """Return the cosines, rounded as the search rounds them."""
    unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (queries, gallery)]
    return np.round(unit[0] @ unit[1].T, 9)


def on_a_line(relevant: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return one query of class 1 and a gallery that it finds in this order: `1` relevant, `0` not."""
    angles = np.linspace(0.1, 1.4, len(relevant))
    gallery = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return np.array([[2.0, 0.0]]), np.array([1]), gallery, np.array([int(one) for one in relevant])


@pytest.mark.parametrize("leave_one_out", [False, True])
def test_query_measures__standard_agrees_with_scikit_learn(leave_one_out: bool) -> None:
    gallery, labels = drawn(0, 150)
    queries, asked = (gallery, labels) if leave_one_out else drawn(1, 40)
    own = np.arange(150) if leave_one_out else None
    found = query_measures(queries, asked, gallery, labels, own, k=20)
    cosines = scores(queries, gallery)
    for row in range(len(queries)):
        searched = np.arange(150) != (row if leave_one_out else -1)
        relevant, near = labels[searched] == asked[row], cosines[row, searched]
        # Scikit-learn groups equal scores: a tie is broken as the search breaks it, by position.
        near = near - 1e-12 * np.arange(len(near))
        assert found["map"][row] == pytest.approx(average_precision_score(relevant, near), abs=1e-12)
        assert found["ndcg"][row] == pytest.approx(ndcg_score([relevant], [near], k=20), abs=1e-12)


def test_retrieval_figures__standard_agrees_with_torchmetrics() -> None:
    (gallery, labels), (queries, asked) = drawn(2, 90), drawn(3, 30)
    found = retrieval_figures(queries, asked, gallery, labels, k=10)
    # Torchmetrics takes a score of zero or less for "not found".
    near = 2 + torch.from_numpy(scores(queries, gallery) - 1e-12 * np.arange(90))
    relevant = torch.from_numpy(asked[:, None] == labels)
    index = torch.arange(30)[:, None].expand(30, 90)
    flat = near.flatten(), relevant.flatten(), index.flatten()
    assert found["map"] == pytest.approx(float(RetrievalMAP()(flat[0], flat[1], indexes=flat[2])), abs=1e-6)
    ndcg = RetrievalNormalizedDCG(top_k=10)(flat[0], flat[1], indexes=flat[2])
    assert found["ndcg"] == pytest.approx(float(ndcg), abs=1e-6)
    for k in (1, 5, 10):
        hit = RetrievalHitRate(top_k=k)(flat[0], flat[1], indexes=flat[2])
        assert found[f"recall@{k}"] == pytest.approx(float(hit), abs=1e-6)


def test_retrieval_figures__standard_by_hand() -> None:
    # Three relevant at the ranks 1, 4, 6: G = 3, K = min(12, 6) = 6.
    found = retrieval_figures(*on_a_line("1001010"), k=5)
    assert found["map"] == pytest.approx((1 / 1 + 2 / 4 + 3 / 6) / 3)
    ideal = 1 + 1 / math.log2(3) + 1 / math.log2(4)
    assert found["ndcg"] == pytest.approx((1 + 1 / math.log2(5)) / ideal)
    assert found["anmrr"] == pytest.approx(((1 + 4 + 6) / 3 - 2) / (7.5 - 2))
    assert (found["nn"], found["first_tier"], found["second_tier"]) == (1, pytest.approx(1 / 3), 1)
    assert (found["queries"], found["excluded"]) == (1, 0)


def test_retrieval_figures__standard_anmrr_counts_a_late_rank_as_a_quarter_more() -> None:
    # G = 1 of a query whose widest is 1: K = 2; the relevant one stands at rank 5 and counts 2.5.
    found = retrieval_figures(*on_a_line("00001"))
    assert found["anmrr"] == pytest.approx((2.5 - 1) / (2.5 - 1))
    # Beside a query with G = 3, K is min(4, 6) = 4: rank 3 counts 3.
    queries, _, gallery, _ = on_a_line("000000")
    both = retrieval_figures(
        np.repeat(queries, 2, axis=0), np.array([1, 2]), gallery, np.array([2, 2, 1, 2, 0, 0])
    )
    three = ((1 + 2 + 4) / 3 - 2) / (1.25 * 6 - 2)
    assert both["anmrr"] == pytest.approx(((3 - 1) / (5 - 1) + three) / 2)


def test_retrieval_figures__osmn40_by_hand() -> None:
    # Ranks 1, 4, 5 of G = 3: precisions 1, 1/2, 3/5; the second becomes 3/5, the largest from there on.
    found = retrieval_figures(*on_a_line("1001100"), definition="osmn40", k=5)
    assert found["map"] == pytest.approx((1 + 3 / 5 + 3 / 5) / 3)
    ideal = sum(1 / math.log2(rank + 1) for rank in range(1, 6))
    assert found["ndcg"] == pytest.approx((1 + 1 / math.log2(5) + 1 / math.log2(6)) / ideal)
    # Of the first three ranks only the first is relevant: (1 + 7 + 7) / 3 with K = 6.
    assert found["anmrr"] == pytest.approx((5 - 1.5 - 0.5) / (6 - 1.5 + 0.5))
    assert retrieval_figures(*on_a_line("0001110"), definition="osmn40", k=5)["anmrr"] == 1


def test_retrieval_figures__osmn40_ndcg_stays_low_where_few_are_relevant() -> None:
    found = retrieval_figures(*on_a_line("110" + "0" * 117), definition="osmn40")
    gain = sum(1 / math.log2(rank + 1) for rank in range(1, 101))
    assert found["ndcg"] == pytest.approx((1 + 1 / math.log2(3)) / gain)
    assert (found["map"], found["anmrr"]) == (1, 0)
    # The evaluator has no such figure where fewer than 100 items are searched.
    assert "ndcg" not in retrieval_figures(*on_a_line("1100"), definition="osmn40")


@pytest.mark.parametrize("definition", DEFINITIONS)
def test_retrieval_figures__of_a_perfect_ranking(definition: Definition) -> None:
    embeddings, labels = drawn(4, 600, classes=4, noise=1e-6)
    found = retrieval_figures(embeddings, labels, embeddings, labels, np.arange(600), definition)
    for name in ("map", "ndcg", "nn", "first_tier", "second_tier", "recall@1", "recall@10"):
        assert found[name] == pytest.approx(1, abs=1e-12), name
    assert found["anmrr"] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("definition", DEFINITIONS)
def test_retrieval_figures__queries_without_anything_relevant(definition: Definition) -> None:
    (gallery, labels), (queries, asked) = drawn(5, 120), drawn(6, 20)
    asked[:5] = 17
    found = retrieval_figures(queries, asked, gallery, labels, None, definition, k=10)
    rest = retrieval_figures(queries[5:], asked[5:], gallery, labels, None, definition, k=10)
    assert (found["queries"], found["excluded"]) == (15, 5)
    share = 1 if definition == "standard" else 15 / 20
    for name in ("map", "ndcg", "nn", "first_tier", "recall@5"):
        assert found[name] == pytest.approx(share * rest[name]), name
    assert found["anmrr"] == pytest.approx(rest["anmrr"])
    with pytest.raises(ValueError, match="no query has a relevant item"):
        retrieval_figures(queries, asked + 50, gallery, labels, None, definition)


def test_retrieval_figures__equal_items_stand_in_the_order_of_the_gallery() -> None:
    gallery, queries = np.ones((6, 3)), np.ones((1, 3)) * 4
    first = retrieval_figures(queries, np.array([1]), gallery, np.array([1, 0, 0, 0, 0, 0]))
    last = retrieval_figures(queries, np.array([1]), gallery, np.array([0, 0, 0, 0, 0, 1]))
    assert (first["map"], last["map"]) == (1, pytest.approx(1 / 6))


@pytest.mark.parametrize("definition", DEFINITIONS)
def test_query_measures__do_not_depend_on_the_blocks(
    definition: Definition, monkeypatch: pytest.MonkeyPatch
) -> None:
    embeddings, labels = drawn(7, 110)
    whole = query_measures(embeddings, labels, embeddings, labels, np.arange(110), definition)
    monkeypatch.setattr("edgeproof_train.retrieval.search.block_rows", lambda targets: 7)
    parts = query_measures(embeddings, labels, embeddings, labels, np.arange(110), definition)
    for name, values in whole.items():
        np.testing.assert_array_equal(values, parts[name])


def test_retrieval_figures__unlabelled_items_are_in_the_way_and_never_relevant() -> None:
    queries, asked, gallery, _ = on_a_line("0000")
    found = retrieval_figures(queries, asked, gallery, np.array([-1, 1, -1, 1]))
    assert found["map"] == pytest.approx((1 / 2 + 2 / 4) / 2)


def test_relevant_ranks__are_padded_with_zeros() -> None:
    relevant = np.array([[0, 1, 1, 0], [0, 0, 0, 0], [1, 0, 0, 0]], bool)
    assert relevant_ranks(relevant, relevant.sum(axis=1)).tolist() == [[2, 3], [0, 0], [1, 0]]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"queries": np.zeros((0, 24)), "query_labels": np.zeros(0, int)}, "there is no query"),
        ({"query_labels": np.full(5, -1)}, "5 queries have no label"),
        ({"gallery_labels": np.zeros(3, int)}, "expected a label for each of 5 queries and 9 items"),
        ({"queries": np.ones((5, 3))}, "equally wide"),
        ({"queries": np.zeros((5, 24))}, "5 embeddings are zero or not finite, the first is row 0"),
        ({"own": np.array([0, 1, 2, 3, 9])}, "expected the position among 9 items"),
        ({"definition": "mine"}, "definition must be one of"),
    ],
)
def test_retrieval_figures__bad_input(changes: dict[str, object], words: str) -> None:
    (queries, asked), (gallery, labels) = drawn(8, 5, 2), drawn(9, 9, 2)
    given: dict[str, object] = {
        "queries": queries,
        "query_labels": asked,
        "gallery": gallery,
        "gallery_labels": labels,
    }
    with pytest.raises(ValueError, match=words):
        retrieval_figures(**(given | changes))  # pyright: ignore[reportArgumentType]
