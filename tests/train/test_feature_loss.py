from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter, ValidationError

from edgeproof_configs.errors import RecipeError
from edgeproof_configs.loader import component_config
from edgeproof_train.feature_loss import NodePair, Nodes, common_size, needs_of_nodes, pooled_to, same_size


def test_needs_of_nodes__each_once() -> None:
    pairs = [NodePair(student="layer3", teacher="a"), NodePair(student="layer3", teacher="b")]
    assert needs_of_nodes(pairs) == ("student.features[layer3]", "teacher.features[a]", "teacher.features[b]")


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ({"blocks.4": "layer3"}, r"losses\.nodes: expected a list of pairs, such as \[\{student"),
        ([{"student": "blocks.4"}], r"nodes\.0\.teacher: missing, expected text"),
        ([{"studnet": "a", "teacher": "b"}], r"studnet: unknown key\. Did you mean 'student'\?"),
        ([{"student": 4, "teacher": "b"}], r"nodes\.0\.student: expected text, got 4"),
        ([], r"nodes: expected a list of at least 1, got \[\]"),
        ("layer3", r"nodes: expected a list, got 'layer3'"),
    ],
)
def test_nodes__what_a_recipe_may_get_wrong(nodes: Any, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        component_config("loss", {"kind": "hint", "nodes": nodes})
    line = "\n".join(f"losses.{problem.key}: {problem.message}" for problem in caught.value.problems)
    assert re.search(message, line), line


def test_nodes__round_trip_through_the_plain_recipe() -> None:
    config = component_config("loss", {"kind": "hint", "nodes": [{"student": "a", "teacher": "b"}]})
    assert component_config("loss", config.model_dump(mode="json")) == config


def test_nodes__a_student_node_may_have_two_targets() -> None:
    nodes = TypeAdapter(Nodes).validate_python(
        [{"student": "a", "teacher": "b"}, {"student": "a", "teacher": "c"}]
    )
    assert len(nodes) == 2
    with pytest.raises(ValidationError, match="twice"):
        TypeAdapter(Nodes).validate_python([{"student": "a", "teacher": "b"}] * 2)


def test_same_size__of_each_side_the_smaller() -> None:
    student, teacher = torch.randn(2, 3, 8, 4), torch.randn(2, 5, 4, 6)
    small_student, small_teacher = same_size(student, teacher)
    assert small_student.shape == (2, 3, 4, 4)
    assert small_teacher.shape == (2, 5, 4, 4)
    torch.testing.assert_close(small_student[:, :, 0, 0], student[:, :, :2, 0].mean(dim=2))
    assert common_size(((3, 8, 4), (5, 4, 6))) == (4, 4)


def test_pooled_to__an_equal_size_is_left_alone() -> None:
    features = torch.randn(1, 2, 3, 3)
    assert pooled_to(features, (3, 3)) is features
