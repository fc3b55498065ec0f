from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from edgeproof_benchmarks.report_data import Control, FormRow, Gate
from edgeproof_benchmarks.verdict import choose, judge


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


def test_judge__compiled_pytorch_is_in_no_bundle(rows: list[FormRow]):
    faster = replace(rows[2], engine="pytorch_compiled", latency_ms={1: {"p50": 0.9}})
    assert judge([*rows, faster]).sentence.startswith("Ship ONNX Runtime fp32")


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


@pytest.fixture
def compressed(made_up: Any) -> list[FormRow]:
    return [FormRow.from_dict(row) for row in made_up.compressed_rows()]


def changed(rows: list[FormRow], form: str, precision: str, **values: Any) -> list[FormRow]:
    """Return the rows with other values in the ONNX Runtime row of a form."""
    wanted = (form, "onnxruntime", precision)
    assert any((row.form, row.engine, row.precision) == wanted for row in rows)
    return [
        replace(row, **values) if (row.form, row.engine, row.precision) == wanted else row for row in rows
    ]


def test_judge__a_compressed_form_is_compared_with_its_teacher_and_with_dense_fp32(compressed: list[FormRow]):
    assert judge(compressed).sentence == (
        "Ship ONNX Runtime int8: 96.5 % top-1, 0.6 points below its teacher, "
        "0.62 ms p50 an image (16 times faster); "
        "3.1 times faster than fp32 and 0.4 points below it; sparsity bought nothing here (1.01 times)."
    )


def test_judge__forms_that_are_as_fast_are_told_apart_by_sparsity_and_precision(
    compressed: list[FormRow],
):
    engines = [row for row in compressed if row.engine == "onnxruntime"]
    timed = [replace(row, latency_ms={1: {"p50": 1.0}}, metrics={"top1": 0.9}) for row in engines]

    def chosen(rows: list[FormRow]) -> str:
        row = choose(rows)
        assert row is not None
        return row.name

    assert chosen(timed) == "ONNX Runtime fp32"
    assert chosen(changed(timed, "student", "int8", metrics={"top1": 0.91})) == "ONNX Runtime fp32"
    assert chosen(changed(timed, "sparse", "int8", metrics={"top1": 0.95})) == "ONNX Runtime fp32"
    slightly = changed(timed, "sparse", "int8", latency_ms={1: {"p50": 0.96}})
    assert chosen(slightly) == "ONNX Runtime fp32"
    clearly = changed(timed, "sparse", "int8", latency_ms={1: {"p50": 0.94}})
    assert chosen(clearly) == "ONNX Runtime sparse int8"


def in_rounds(p50: float, *factors: float) -> dict[int, dict[str, Any]]:
    """Return the latency of a form whose rounds took as many times `p50`."""
    return {1: {"p50": p50, "rounds_p50_ms": [p50 * factor for factor in factors]}}


def test_judge__a_gain_that_the_rounds_do_not_show_neither_decides_nor_is_claimed(compressed: list[FormRow]):
    dense = in_rounds(0.25, 1.0, 0.7, 1.2, 1.1, 1.0)
    timed = changed(compressed, "student", "fp32", latency_ms=in_rounds(0.75, *[1.0] * 5))
    timed = changed(timed, "sparse", "fp32", latency_ms=in_rounds(0.75, *[1.0] * 5))
    timed = changed(timed, "student", "int8", latency_ms=dense)
    timed = changed(timed, "sparse", "int8", latency_ms=in_rounds(0.19, *[1.0] * 5))
    sentence = judge(timed).sentence
    assert sentence.startswith("Ship ONNX Runtime int8: ")
    assert sentence.endswith(
        "; 3.0 times faster than fp32 and 0.4 points below it; sparsity bought nothing that can be told from "
        "noise here (1.3 times, 0.9 to 1.6 over 5 rounds)."
    )
    sure = changed(timed, "student", "int8", latency_ms=in_rounds(0.25, 1.0, 0.9, 1.2, 1.1, 1.0))
    assert judge(sure).sentence.startswith("Ship ONNX Runtime sparse int8: ")


def test_judge__a_student_that_the_rounds_do_not_show_to_be_faster_than_its_teacher(rows: list[FormRow]):
    rows[0] = replace(rows[0], latency_ms=in_rounds(2.0, 1.0, 0.5, 1.1))
    rows[2] = replace(rows[2], latency_ms=in_rounds(1.5, *[1.0] * 3))
    assert "1.50 ms p50 an image (not surely faster than its teacher)" in judge(rows).sentence


def test_judge__int8_that_is_not_faster_is_said(compressed: list[FormRow]):
    slow = changed(compressed, "student", "int8", latency_ms={1: {"p50": 2.12}})
    slow = changed(slow, "sparse", "int8", latency_ms={1: {"p50": 2.2}})
    sentence = judge(slow).sentence
    assert sentence.startswith("Ship ONNX Runtime fp32: ")
    assert "; INT8 bought nothing here: 0.9 times the speed of fp32;" in sentence


def test_judge__sparsity_that_paid_is_said(compressed: list[FormRow]):
    fast = changed(compressed, "sparse", "int8", latency_ms={1: {"p50": 0.477}})
    assert judge(fast).sentence.endswith(
        "; 4.0 times faster than dense fp32 and 0.9 points below it; 1.3 times of that by sparsity."
    )


def test_judge__a_faster_form_that_failed_is_said(compressed: list[FormRow]):
    gates = (Gate("zero_shot_drop", 0.04, 0.01, "fail", "at most"),)
    fast = changed(compressed, "sparse", "int8", latency_ms={1: {"p50": 0.31}}, gates=gates)
    verdict = judge(fast)
    assert verdict.sentence.startswith("Ship ONNX Runtime int8: ")
    assert verdict.sentence.endswith("; sparsity would be 2.0 times faster, but zero_shot_drop failed.")
    assert "ONNX Runtime sparse int8 failed: zero_shot_drop 0.04 (at most 0.01)." in verdict.caveats


def test_judge__a_gate_of_the_int8_student_in_pytorch_holds_for_what_is_made_of_it(compressed: list[FormRow]):
    origin = next(row for row in compressed if row.name == "PyTorch int8")
    failing = replace(origin, gates=(Gate("agreement", 0.9, 0.95, "fail", "at least"),))
    verdict = judge([failing if row is origin else row for row in compressed])
    assert verdict.status == "ship"
    assert verdict.sentence.startswith("Ship ONNX Runtime sparse int8: ")
    assert "PyTorch int8 failed: agreement 0.9 (at least 0.95)." in verdict.caveats


def test_judge__int8_that_is_slower_in_another_engine_is_a_caveat(compressed: list[FormRow]):
    others = [
        replace(row, engine="openvino", latency_ms={1: {"p50": p50}})
        for row, p50 in zip(compressed[2:], (3.0, 5.0), strict=False)
    ]
    others = [
        replace(others[0], form="student", precision="fp32"),
        replace(others[1], form="student", precision="int8"),
    ]
    assert (
        "OpenVINO int8 bought nothing here: 0.6 times the speed of fp32."
        in judge([*compressed, *others]).caveats
    )


def test_judge__forms_that_were_only_built_are_listed_by_engine(compressed: list[FormRow]):
    assert "TensorRT-RTX (fp32, int8 and sparse int8) was built, not run here." in judge(compressed).caveats
