from __future__ import annotations

import math
import random
from typing import Any

import pytest
import yaml

from edgeproof_configs.yaml_source import parse_yaml
from edgeproof_configs.yaml_text import to_yaml

AWKWARD = {
    "words": [
        "",
        "yes",
        "No",
        "null",
        "~",
        "1e-3",
        "0x1",
        "12:30",
        "a: b",
        "a #b",
        "-",
        "<<",
        "C:",
        "[x",
        "é",
        "two words",
    ],
    "unseen": "\u2028\x7f\n\t\u0085\ufeff\U000e0001",
    "numbers": [0, -1, 1.0, 1e-5, 1e300, 0.1, -0.0],
    "constants": [True, False, None],
    "nested": {"empty": {}, "none": [], "list": [{"k": "v", "w": {"x": [1, [2]]}}, {}, "plain", [{"y": 1}]]},
    "on": {"n": 1},
}


def read_back(plain: Any) -> Any:
    document = parse_yaml(to_yaml(plain).encode(), "r.yaml")
    assert document.problems == []
    return document.plain


def test_to_yaml__reads_back_the_same() -> None:
    assert read_back(AWKWARD) == AWKWARD
    assert yaml.safe_load(to_yaml(AWKWARD)) == AWKWARD
    assert math.copysign(1, read_back(AWKWARD)["numbers"][-1]) == -1


def test_to_yaml__random_text_reads_back_the_same() -> None:
    rng = random.Random(0)
    alphabet = " \n\t'\"#:-,[]{}&*!|>%@`~?aZ09.\\é\u2028"
    for _ in range(500):
        text = "".join(rng.choices(alphabet, k=rng.randrange(8)))
        assert read_back({"a": text, "b": [text]}) == {"a": text, "b": [text]}


def test_to_yaml__notes_stand_behind_their_values() -> None:
    text = to_yaml(
        {"a": 1, "b": {"c": [1, 2]}, "d": [{"e": 2}]}, {"a": "here", "b.c": "there", "d.0.e": "deep"}
    )
    assert text.splitlines() == [
        "a: 1         # here",
        "b:",
        "  c: [1, 2]  # there",
        "d:",
        "  - e: 2     # deep",
    ]


@pytest.mark.parametrize("empty", [{}, {"a": {}}])
def test_to_yaml__nothing_inside(empty: dict[str, Any]) -> None:
    assert read_back({"top": empty}) == {"top": empty}
