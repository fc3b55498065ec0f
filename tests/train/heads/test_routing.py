"""Figures of routing: precision, recall and what wrong routes cost, of a case worked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from edgeproof_deploy.runtime.cascade_head import CascadeHead
from edgeproof_deploy.runtime.cascade_step import Step
from edgeproof_deploy.runtime.linear_head import LinearHead
from edgeproof_train.heads.routing import cost, owners, routing_figures, step_names, time_spent, with_oracle

LABELS = ("yak", "cup", "pug", "poodle")
AXES = np.eye(4, dtype=np.float32)


def cascade() -> CascadeHead:
    """Yaks and cups by a head, dogs by a specialist."""
    first = Step(np.arange(4), np.array([1, 1, 0, 0]), head=LinearHead(LABELS, AXES, None, 9.0))
    dogs = Step(np.array([2, 3]), np.ones(2), specialist="dogs", columns=np.arange(2), classes=2)
    return CascadeHead(LABELS, (first, dogs))


def poodles(name: str, images: np.ndarray) -> np.ndarray:
    return np.tile(np.array([0.0, 1.0], np.float32), (len(images), 1))


def test_routing_figures__by_hand() -> None:
    head = cascade()
    # What is seen:      yak  cup  cup  pug  pug      poodle  cup (without a label)
    seen = np.array([0, 1, 1, 2, 2, 3, 1])
    # What is true:      yak  cup  pug  pug  yak      poodle
    labels = np.array([0, 1, 2, 2, 0, 3, -1])
    routed = head.routed(AXES[seen], poodles)
    oracle = with_oracle(head, AXES[seen][:6], labels[:6], poodles)
    found = routing_figures(head, routed, labels, step_names(head, ["inmap", ""]), oracle)
    assert [row["step"] for row in found["steps"]] == ["1 inmap", "2 dogs"]
    assert [row["arrived"] for row in found["steps"]] == [7, 3]
    assert [row["answered"] for row in found["steps"]] == [4, 3]
    assert [row["precision"] for row in found["steps"]] == pytest.approx([2 / 3, 2 / 3])
    assert [row["recall"] for row in found["steps"]] == pytest.approx([2 / 3, 2 / 3])
    assert [row["accuracy"] for row in found["steps"]] == pytest.approx([2 / 3, 1 / 3])
    assert found["confusion"] == [[2, 1], [1, 2]]
    assert (found["images"], found["labelled"]) == (7, 6)
    # Right: yak, cup, poodle. With an oracle the lost yak would be one again, and no pug would be.
    assert found["accuracy"] == pytest.approx(3 / 6)
    assert oracle.tolist() == [True, True, False, False, True, True]
    assert found["oracle_accuracy"] == pytest.approx(4 / 6)
    assert found["lost_by_routing"] == pytest.approx(1 / 6)


def test_routing_figures__nothing_is_labelled() -> None:
    head = cascade()
    found = routing_figures(head, head.routed(AXES[:2]), np.array([-1, -1]), ["1", "2"])
    assert "accuracy" not in found
    assert [row["precision"] for row in found["steps"]] == [None, None]
    assert [row["answered"] for row in found["steps"]] == [2, 0]


def test_routing_figures__a_second_opinion_is_no_wrong_route() -> None:
    first = Step(np.arange(2), np.ones(2), 0.9, head=LinearHead(LABELS[:2], AXES[:2], None, 4.0))
    again = Step(np.arange(2), np.ones(2), head=LinearHead(LABELS[:2], AXES[[1, 0]]))
    head = CascadeHead(LABELS[:2], (first, again))
    embeddings = np.array([[1, 0, 0, 0], [1, 1.1, 0, 0], [1.1, 1, 0, 0]], np.float32)
    routed = head.routed(embeddings)
    assert routed.answered.tolist() == [0, 1, 1]
    labels = np.array([0, 0, 0])
    oracle = with_oracle(head, embeddings, labels, None)
    found = routing_figures(head, routed, labels, ["1", "2"], oracle)
    assert [row["precision"] for row in found["steps"]] == [1, 1]
    assert [row["recall"] for row in found["steps"]] == [1, 1]
    assert (found["accuracy"], found["oracle_accuracy"]) == pytest.approx((2 / 3, 1))


def test_owners__the_first_step_that_may_answer() -> None:
    head = cascade()
    assert owners(head).tolist() == [0, 0, 1, 1]


def test_cost__loaded_and_used() -> None:
    head = cascade()
    arrived = np.array([[1, 0], [1, 0], [1, 0], [1, 1]], bool)
    found = cost(head, arrived, 1000, {"dogs": 400})
    # The head of the first step has 4 x 4 numbers and its scale.
    assert found["loaded"] == 1000 + 17 + 400
    assert found["used_mean"] == pytest.approx(1000 + 17 + 100)
    assert found["used_most"] == 1417
    assert cost(head, arrived[:3], 1000, {"dogs": 400})["used_most"] == 1017


def test_time_spent__heads_and_a_specialist_by_the_share_that_reaches_it() -> None:
    arrived = np.array([[1, 1], [1, 0], [1, 0], [1, 0]], bool)
    found = time_spent(cascade(), arrived, 0.5, {"dogs": 8.0})
    assert found == {
        "heads": 0.5,
        "specialists": {"dogs": 8.0},
        "mean": 2.5,
        "mean_of": "heads and specialists, without the student",
    }


def test_time_spent__without_a_specialist_it_is_that_of_the_heads() -> None:
    head = LinearHead(("a", "b"), np.eye(2))
    steps = (Step(np.arange(2), np.ones(2), 0.5, head=head), Step(np.arange(2), np.ones(2), head=head))
    found = time_spent(CascadeHead(("a", "b"), steps), np.ones((3, 2), bool), 0.0074, {})
    assert (found["mean"], found["mean_of"]) == (0.0074, "heads, without the student")
