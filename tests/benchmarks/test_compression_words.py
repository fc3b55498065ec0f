from __future__ import annotations

from dataclasses import replace

import pytest

from edgeproof_benchmarks.compression_words import bought, counterpart, disappointments, form_sentence, level
from edgeproof_benchmarks.report_data import FormRow


def row(form: str, precision: str, p50: float | None, top1: float | None = None, engine: str = "onnxruntime"):
    latency = {} if p50 is None else {1: {"p50": p50}}
    metrics = {} if top1 is None else {"top1": top1}
    return FormRow(form, engine, precision, metrics=metrics, latency_ms=latency)


def test_counterpart__same_engine_and_nothing_else_differs():
    dense, other = row("student", "fp32", 1.0), row("student", "fp32", 1.0, engine="openvino")
    int8 = row("student", "int8", 0.5)
    assert counterpart(int8, [other, dense, int8], precision="fp32") is dense
    assert counterpart(dense, [other, dense, int8], precision="fp32") is None


def test_bought__nothing_to_say_of_a_run_without_compression():
    dense = row("student", "fp32", 1.0, 0.9)
    assert bought(dense, [row("student", "fp32", 4.0, 0.9, "pytorch"), dense]) == []


def test_bought__half_precision_that_is_slower():
    dense, half = row("student", "fp32", 1.0, 0.9), row("student", "fp16", 2.5, 0.9)
    assert bought(half, [dense, half]) == [
        "FP16 bought nothing here: 0.4 times the speed of fp32 and level with it"
    ]


def test_bought__without_latencies_the_accuracy_alone():
    dense, int8 = row("student", "fp32", None, 0.9), row("student", "int8", None, 0.88)
    assert bought(int8, [dense, int8]) == ["2.0 points below fp32"]


def test_bought__a_sparse_fp32_form_that_was_chosen():
    rows = [row("student", "fp32", 1.3, 0.9), row("sparse", "fp32", 1.0, 0.9)]
    assert bought(rows[1], rows) == ["1.3 times faster than dense fp32 and level with it"]


def test_disappointments__of_engines_that_the_sentence_is_not_about():
    rows = [
        row("student", precision, p50, 0.9, "openvino") for precision, p50 in (("fp32", 1.0), ("int8", 1.0))
    ]
    assert disappointments(rows, row("student", "fp32", 1.0)) == [
        "OpenVINO int8 bought nothing here: 1.00 times the speed of fp32."
    ]
    assert disappointments(rows, rows[0]) == []


def in_rounds(form: str, precision: str, *rounds: float) -> FormRow:
    """Return a row with the medians of its rounds."""
    return replace(row(form, precision, 1.0, 0.9), latency_ms={1: {"p50": 1.0, "rounds_p50_ms": rounds}})


NOISY = (in_rounds("student", "int8", 1.3, 0.9, 1.5, 1.6, 1.2), in_rounds("sparse", "int8", *[1.0] * 5))
SLOW = in_rounds("student", "fp32", *[4.0] * 5)


def test_bought__sparsity_that_lost_a_round_is_noise():
    assert bought(NOISY[1], [SLOW, *NOISY]) == [
        "4.0 times faster than dense fp32 and level with it",
        "sparsity bought nothing that can be told from noise here (1.3 times, 0.9 to 1.6 over 5 rounds)",
    ]


def test_bought__sparsity_that_won_every_round():
    dense = in_rounds("student", "int8", 1.3, 1.1, 1.5, 1.6, 1.2)
    assert bought(NOISY[1], [SLOW, dense, NOISY[1]])[1:] == ["1.3 times of that by sparsity"]


def test_bought__int8_within_the_noise_of_fp32():
    dense, int8 = in_rounds("student", "fp32", 1.3, 0.9, 1.4), in_rounds("student", "int8", 1.0, 1.0, 1.0)
    speed = "1.3 times the speed of fp32 (0.9 to 1.4 over 3 rounds)"
    words = f"bought nothing that can be told from noise here: {speed}"
    assert bought(int8, [dense, int8]) == [f"INT8 {words} and level with it"]
    assert bought(dense, [dense, int8]) == [f"INT8 {words}"]
    other = row("student", "fp32", 1.0, engine="openvino")
    assert disappointments([dense, int8], other) == [f"ONNX Runtime int8 {words}."]


def test_form_sentence__sparsity_within_the_noise_of_dense_int8():
    assert form_sentence([NOISY[1]], [SLOW, *NOISY]) == (
        "ONNX Runtime: 4.0 times faster than dense fp32 and level with it; beside dense int8, sparsity "
        "bought nothing that can be told from noise here (1.3 times, 0.9 to 1.6 over 5 rounds) "
        "and is level with it."
    )


@pytest.mark.parametrize(
    ("difference", "words"),
    [
        (-0.003, "0.3 points below its teacher"),
        (0.0104, "1.0 point above its teacher"),
        (-0.0004, "level with its teacher"),
    ],
)
def test_level__in_points(difference: float, words: str):
    assert level(difference, "its teacher") == words


def test_level__nothing_where_it_is_unknown():
    assert level(None, "fp32") == ""
