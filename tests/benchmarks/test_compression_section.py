from __future__ import annotations

import copy
from typing import Any

import pytest
from tests.benchmarks.page import Page

from edgeproof_benchmarks.compression_data import compression_notes
from edgeproof_benchmarks.formats import MINUS
from edgeproof_benchmarks.report import render_report
from edgeproof_benchmarks.report_data import report_data

FINDING = {
    "node": "layer1.add",
    "rule": "residual_add",
    "level": "warning",
    "message": "one input of an addition is not quantised",
    "cost": "the addition runs in floating point",
    "fix": "quantise both inputs",
}


def form(name: str, precision: str, size: int, **told: Any) -> dict[str, Any]:
    """Return what `compression_data.form_of` gives of a form."""
    key = precision if name == "student" else f"{name}_{precision}"
    file = f"model.{key}.onnx"
    plain = {
        "form": name,
        "precision": precision,
        "key": key,
        "files": {file: {"size_bytes": size, "cosine_min": 0.99999}},
        "findings": {},
        "weights": {
            "weights": 4000,
            "nonzero": 2000 if name == "sparse" else 4000,
            "layers": 2,
            "layers_2_4": 1,
        },
        "fused": None,
    }
    return plain | told


def quantised(**changed: Any) -> dict[str, Any]:
    """Return a `quantization.json` without its ranges: of two layers one is in INT8."""
    layers = [
        {
            "name": "stem.conv",
            "kind": "Conv2d",
            "shape": [16, 3, 3, 3],
            "quantised": True,
            "reason": "",
            "sensitivity": 2e-4,
        },
        {
            "name": "head",
            "kind": "Linear",
            "shape": [64, 16],
            "quantised": False,
            "reason": "excluded by name",
            "sensitivity": None,
        },
    ]
    plain = {
        "method": "qat",
        "backend": "modelopt",
        "target": "onnxruntime",
        "calibration": "entropy",
        "images": {"asked": 512, "used": 96},
        "max_drop": 0.01,
        "val": {"fp32": {"top1": 0.96}, "calibrated": {"top1": 0.9}, "tuned": {"top1": 0.95}},
        "layers": layers,
        "unfolded_batch_norms": [],
    }
    return plain | changed


@pytest.fixture
def result(made_up: Any) -> dict[str, Any]:
    fused = {
        "words": "1 of 2 convolutions in integers",
        "integer": {"convolutions": 1},
        "floating": {"convolutions": ["head.conv"]},
        "operators": {},
    }
    sparsity = {
        "pattern": "2:4",
        "epochs": 5,
        "layers": [
            {
                "name": "stem.conv",
                "shape": [16, 3, 3, 3],
                "reason": "3 input channels, not a multiple of 16",
                "eligible": False,
            },
            {"name": "head", "shape": [64, 16], "reason": "", "eligible": True},
        ],
        "weights": {"all": 5000, "pruned_layers": 4000, "dropped": 2000, "share": 0.4},
        "kept_magnitude": {"without": 0.7512, "with": 0.7893},
        "not_searched": "",
        "val": {"dense": {"top1": 0.96}, "pruned": {"top1": 0.5}, "tuned": {"top1": 0.955}},
        "seconds": {"deciding": 3.0, "all": 61.0},
    }
    forms = [
        form("student", "fp32", 19_700_000),
        form("sparse", "fp32", 19_700_000),
        form("student", "int8", 5_100_000, fused=fused, findings={"model.int8.onnx": [FINDING]}),
        form("sparse", "int8", 5_100_000, findings={"model.sparse_int8.onnx": []}),
    ]
    quantization = {"int8": quantised(), "sparse_int8": quantised()}
    compression = {"forms": forms, "sparsity": sparsity, "quantization": quantization}
    return made_up.result(rows=made_up.compressed_rows(), compression=compression)


def words_of(result: dict[str, Any]) -> str:
    return Page(render_report(report_data(result))).text


def test_compression__the_four_forms_side_by_side(result: dict[str, Any]):
    text = words_of(result)
    for words in (
        "dense fp32",
        "2:4 sparse fp32",
        "2:4 sparse INT8",
        "50.0 % zero",
        "3.1 times",
        "0.29 times fp32",
        "cosine to fp32 student",
        "0.996",
    ):
        assert words in text


def test_compression__a_sentence_for_each_compressed_form(result: dict[str, Any]):
    text = words_of(result)
    for words in (
        "ONNX Runtime: sparsity bought nothing here: 1.01 times the speed of dense fp32 "
        "and 0.5 points below it.",
        "ONNX Runtime: 3.1 times faster than fp32 and 0.4 points below it. "
        "TensorRT-RTX: 0.29 times the bytes of fp32 (built, not run here).",
        "beside dense int8, sparsity bought nothing here (1.01 times) and is 0.5 points below it",
    ):
        assert words in text


def test_compression__how_it_was_done(result: dict[str, Any]):
    text = words_of(result)
    for words in (
        "78.93 %, 75.12 % without reordering channels",
        "val top-1, pruned",
        "2:4 in model.sparse_int8.onnx 1 of 2 layers",
        "entropy, from 96 images (512 asked for)",
        "1 of 2 convolutions in integers",
        "left in floating point",
        "no: 3 input channels, not a multiple of 16",
        "no: excluded by name",
        "2.0e-04".replace("-", MINUS),
        "model.int8.onnx: 1 warning",
        "quantise both inputs",
        "model.sparse_int8.onnx",
        "nothing found",
    ):
        assert words in text


def test_compression__absent_without_it(made_up: Any):
    assert "Compression" not in words_of(made_up.result())


def test_compression__int8_alone_and_no_sensitivities(result: dict[str, Any]):
    alone = copy.deepcopy(result)
    told = alone["compression"]
    told["sparsity"] = None
    told["forms"] = [one for one in told["forms"] if one["form"] == "student"]
    layers = [layer | {"sensitivity": None} for layer in quantised()["layers"]]
    told["quantization"] = {"int8": quantised(layers=layers, max_drop=None)}
    alone["rows"] = [row for row in alone["rows"] if row["form"] != "sparse"]
    text = words_of(alone)
    assert "Compression" in text
    assert "2:4" not in text
    assert "cosine lost alone" not in text
    assert "given back" not in text


def test_compression__a_form_that_failed_is_not_to_be_shipped(result: dict[str, Any]):
    for row in result["rows"]:
        if (row["form"], row["engine"], row["precision"]) == ("student", "onnxruntime", "int8"):
            row["gates"] = [{"name": "cosine", "value": 0.9, "limit": 0.99, "status": "fail"}]
    assert "Not to be shipped: cosine failed." in words_of(result)


def test_compression_notes__fewer_images_than_asked_for(result: dict[str, Any]):
    told = result["compression"]
    assert compression_notes(None) == []
    assert compression_notes(told) == ["calibration: 96 training images, all there are; 512 were asked for"]
    told["sparsity"]["not_searched"] = "the student cannot be shown as a graph"
    told["quantization"]["int8"]["unfolded_batch_norms"] = ["backbone.bn1"]
    said = compression_notes(told)
    assert "batch norms that could not be folded before INT8: backbone.bn1" in said
    assert said[-1].endswith("before pruning: the student cannot be shown as a graph")
