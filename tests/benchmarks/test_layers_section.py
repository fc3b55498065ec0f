from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.benchmarks.page import Page

from edgeproof_benchmarks.layer_data import layers_by_form
from edgeproof_benchmarks.report import render_report
from edgeproof_benchmarks.report_data import report_data
from edgeproof_benchmarks.sections.layers import summary


def layer(kind: str, precision: str, **more: str) -> dict[str, str]:
    return {"name": f"/{kind}_{precision}", "kind": kind, "precision": precision, "kernel": "", **more}


MIXED = [
    layer("QuantizeLinear", "int8"),
    layer("QLinearConv", "int8"),
    layer("QLinearConv", "int8"),
    layer("DequantizeLinear", "fp32"),
    layer("Reshape", "fp32"),
    layer("Gemm", "fp32", kernel="sgemm_128"),
]


def page(made_up: Any, layers: dict[str, Any]) -> Page:
    return Page(render_report(report_data(made_up.result(), layers=layers)))


def test_layers__counts_what_computes_and_lists_every_step(made_up: Any) -> None:
    text = page(made_up, {"student/onnxruntime/fp32": {"layers": MIXED}}).text
    assert "2 layers in int8 and 1 layer in fp32; 2 conversions between" in text
    for words in ("/QLinearConv_int8", "/Gemm_fp32", "sgemm_128"):
        assert words in text


def test_layers__says_why_they_are_not_known(made_up: Any) -> None:
    text = page(made_up, {"student/onnxruntime/fp32": {"reason": "it does not tell"}}).text
    assert "it does not tell." in text


def test_layers__absent_in_runs_from_before(made_up: Any) -> None:
    assert "What the layers compute in" not in page(made_up, {}).text


def test_layers__says_whether_a_form_is_what_it_is_called(made_up: Any) -> None:
    result = made_up.result()
    claim = {"form": "x", "claim": "2:4 kernels", "outcome": "refuted", "evidence": "it multiplies the zeros"}
    result["rows"][-1]["claims"] = [claim]
    text = Page(render_report(report_data(result))).text
    for words in ("2:4 kernels", "refuted", "it multiplies the zeros"):
        assert words in text


@pytest.mark.parametrize(("listed", "words"), [([], "no layers"), (MIXED[1:2], "1 layer in int8")])
def test_summary__small_cases(listed: list[dict[str, str]], words: str) -> None:
    assert summary(listed) == words


def test_layers_by_form__leaves_pytorch_out(tiny_onnx: Path) -> None:
    files = {
        "student/pytorch/fp32": ("pytorch", tiny_onnx),
        "student/onnxruntime/fp32": ("onnxruntime", tiny_onnx),
        "student/openvino/fp32": ("openvino", tiny_onnx),
    }
    found = layers_by_form(files, dict.fromkeys(files))
    assert set(found) == {"student/onnxruntime/fp32", "student/openvino/fp32"}
    assert {one["precision"] for one in found["student/onnxruntime/fp32"]["layers"]} == {"fp32"}
    assert "does not say" in found["student/openvino/fp32"]["reason"]
