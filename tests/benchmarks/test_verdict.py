from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from edgeproof_benchmarks.report_data import Control, FormRow, Gate
from edgeproof_benchmarks.verdict import against, judge


@pytest.fixture
def rows(made_up: Any) -> list[FormRow]:
    return [FormRow.from_dict(row) for row in made_up.rows()]


def with_gate(row: FormRow, status: str) -> FormRow:
    return replace(row, gates=(Gate("cosine", 0.91, 0.99, status, "at least"),))


def test_judge__ships_what_passed_and_says_what_it_costs(rows: list[FormRow]):
    verdict = judge(rows)
    assert verdict.status == "ship"
    assert verdict.sentence == (
        "Ship ONNX Runtime fp32: 96.9 % top-1, 0.3 points below its teacher, "
        "1.91 ms p50 an image (5.1 times faster than its teacher)."
    )
    assert verdict.caveats == (
        "On classes held out of training: 64.1 % (teacher 66.8 %).",
        "TensorRT-RTX fp32 was built, not run here.",
        "4 gates passed, none failed, 1 not measured.",
    )


def test_judge__a_failed_gate_is_named_with_value_and_limit(rows: list[FormRow]):
    rows[2] = with_gate(rows[2], "fail")
    verdict = judge(rows)
    assert verdict.status == "do not ship"
    assert "cosine 0.91 (at least 0.99) failed" in verdict.sentence


def test_judge__a_gate_of_the_fp32_student_holds_for_every_form(rows: list[FormRow]):
    rows[1] = replace(rows[1], gates=(Gate("teacher_drop", 0.09, 0.03, "fail"),))
    assert judge(rows).status == "do not ship"


def test_judge__nothing_measured_is_not_proven(rows: list[FormRow]):
    rows[2] = with_gate(rows[2], "not measured")
    rows[1] = replace(rows[1], gates=(Gate("finite", 0.0, 0.0, "pass", "at most"),))
    assert judge(rows).status == "not proven"
    assert judge([row for row in rows if row.engine != "onnxruntime"]).status == "not proven"
    assert judge([]).status == "not proven"


def test_judge__a_sound_form_is_preferred_to_a_faster_one_that_fails(rows: list[FormRow]):
    faster = replace(with_gate(rows[2], "fail"), engine="openvino", latency_ms={1: {"p50": 0.9}})
    verdict = judge([*rows, faster])
    assert verdict.sentence.startswith("Ship ONNX Runtime fp32")
    assert "OpenVINO fp32 failed: cosine 0.91 (at least 0.99)." in verdict.caveats


def test_judge__of_two_sound_forms_the_faster_one(rows: list[FormRow]):
    faster = replace(rows[2], engine="openvino", latency_ms={1: {"p50": 0.9}})
    assert judge([*rows, faster]).sentence.startswith("Ship OpenVINO fp32")


def test_judge__a_control_that_is_no_worse_is_mentioned(rows: list[FormRow]):
    controls = [Control("baseline", {"top1": 0.975}), Control("chance", {"top1": 0.0156})]
    said = " ".join(judge(rows, controls).caveats)
    assert "The control 'baseline' reaches 97.5 %: no worse." in said
    assert "chance" not in said


def test_judge__a_control_on_other_images_is_not_compared(rows: list[FormRow]):
    rows[2] = replace(rows[2], metrics={**rows[2].metrics, "images": 1058.0})
    controls = [Control("baseline", {"top1": 0.99, "images": 2465.0})]
    assert "baseline" not in " ".join(judge(rows, controls).caveats)


def test_judge__far_below_the_teacher_needs_a_gate_that_allows_it(rows: list[FormRow]):
    rows[2] = replace(rows[2], metrics={"top1": 0.538})
    verdict = judge(rows)
    assert verdict.status == "not proven"
    assert "far from its teacher: 53.8 % top-1, 43.3 points below its teacher" in verdict.sentence
    assert verdict.caveats[-1] == "No gate (gates.teacher_drop) says that this is enough."
    rows[1] = replace(rows[1], gates=(Gate("zero_shot_drop", 0.43, 0.5, "pass", "at most"),))
    assert judge(rows).status == "ship"


def test_judge__without_labels_the_cosine_speaks(rows: list[FormRow]):
    rows[2] = replace(rows[2], metrics={"cosine": 0.887})
    assert "cosine 0.887 to its teacher" in judge(rows).sentence


@pytest.mark.parametrize(
    ("difference", "words"),
    [
        (-0.003, "0.3 points below its teacher"),
        (0.0104, "1.0 point above its teacher"),
        (-0.0004, "level with its teacher"),
    ],
)
def test_against__in_points(difference: float, words: str):
    assert against(difference, "its teacher") == words
