"""What is said of a cascade within a run."""

from __future__ import annotations

from typing import Any

from edgeproof_train.cascade_run import routing_line, routing_table

FOUND: dict[str, Any] = {
    "images": 64,
    "steps": [
        {"step": "1 inmap", "arrived": 64, "answered": 16}
        | {"precision": 0.75, "recall": 0.5, "accuracy": 0.25},
        {"step": "2 dogs", "arrived": 48, "answered": 48}
        | {"precision": None, "recall": None, "accuracy": None},
    ],
    "parameters": {"loaded": 2e6, "used_mean": 1.5e6},
    "milliseconds": {"heads": 0.0074, "specialists": {}, "mean": 0.0074, "mean_of": "heads"},
}


def test_routing_table__a_line_for_each_step_and_the_cost() -> None:
    assert routing_table(FOUND).splitlines() == [
        "step      arrived  answered precision    recall  accuracy",
        "1 inmap        64        16    0.7500    0.5000    0.2500",
        "2 dogs         48        48         -         -         -",
        "2.00 M parameters loaded, 1.50 M used by a mean image; 0.0074 ms a mean image (heads)",
    ]


def test_routing_line__the_cost_of_a_mean_image() -> None:
    assert routing_line(FOUND).startswith("answered by 1 inmap 25.0 %, 2 dogs 75.0 %; 2.00 M parameters")
    assert routing_line(FOUND).endswith("0.0074 ms a mean image (heads)")


def test_routing_line__of_a_run_that_does_not_say_what_its_milliseconds_count() -> None:
    before = FOUND | {"milliseconds": {"heads": 0.0074, "specialists": {}, "mean": 0.0}}
    assert routing_line(before).endswith("1.50 M used by a mean image")
