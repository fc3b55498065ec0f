from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from tests.deploy.small_graphs import Builder, exported

from edgeproof_deploy.engine_layers import EngineLayer, layers_in_engine, layers_in_onnxruntime
from edgeproof_deploy.half import to_fp16
from edgeproof_deploy.qdq_passes import fit_to_engine

ARITHMETIC = ("Conv", "FusedConv", "QLinearConv", "Gemm", "QGemm", "Add", "QLinearAdd")


def arithmetic(layers: list[EngineLayer]) -> list[tuple[str, str]]:
    return [(layer.kind, layer.precision) for layer in layers if layer.kind in ARITHMETIC]


def float_network() -> onnx.ModelProto:
    b = Builder()
    x = b.add("Relu", b.conv("image", (8, 3), name="first", weight=b.float_weight(8, 3, 3, 3)))
    y = b.conv(x, (8, 8), name="second", weight=b.float_weight(8, 8, 3, 3))
    return b.model(b.add("Flatten", b.add("GlobalAveragePool", y, name="mean"), name="flat"), (8,))


def test_layers_in_onnxruntime__integers_where_they_fit() -> None:
    model = exported()
    fit_to_engine(model, "onnxruntime")
    found = arithmetic(layers_in_onnxruntime(model.SerializeToString()))
    assert [kind for kind, _ in found].count("QLinearConv") == 2
    assert {precision for _, precision in found} == {"int8"}


def test_layers_in_onnxruntime__a_layer_that_stayed_in_floating_point_is_seen() -> None:
    """As exported, the `Gemm` has a bias in floating point, which ONNX Runtime has no kernel for."""
    found = arithmetic(layers_in_onnxruntime(exported().SerializeToString()))
    assert ("Gemm", "fp32") in found
    assert ("QLinearConv", "int8") in found


def test_layers_in_onnxruntime__names_the_nodes_in_order() -> None:
    found = layers_in_onnxruntime(float_network().SerializeToString())
    assert [layer.name for layer in found] == ["first", "second", "mean", "flat"]
    assert {layer.precision for layer in found} == {"fp32"}


def test_layers_in_onnxruntime__half_precision_is_cast_on_a_cpu(tmp_path: Path) -> None:
    plain, half = tmp_path / "model.onnx", tmp_path / "half.onnx"
    onnx.save(float_network(), plain)
    to_fp16(plain, half, np.random.default_rng(0).normal(size=(2, 3, 8, 8)).astype(np.float32))
    found = layers_in_onnxruntime(half)
    kinds = {layer.precision for layer in found if layer.kind.endswith("Conv")}
    assert kinds == ({"fp32"} if any(layer.kind == "Cast" for layer in found) else {"fp16"})


def test_layers_in_engine__of_a_plan_are_those_of_its_inspector(tmp_path: Path) -> None:
    entry = {
        "Name": "conv1 + relu",
        "LayerType": "CaskConvolution",
        "Inputs": [{"Name": "image", "Format/Datatype": "Int8 NC/32HW32"}],
        "TacticName": "sm86_int8_kernel",
    }
    session = SimpleNamespace(inspect=lambda: json.dumps({"Layers": [entry]}))
    found = layers_in_engine("tensorrt", tmp_path / "plan", session)
    assert found == [EngineLayer("conv1 + relu", "CaskConvolution", "int8", "sm86_int8_kernel")]


@pytest.mark.parametrize("engine", ["openvino", "pytorch_compiled"])
def test_layers_in_engine__says_where_it_is_not_told(engine: str, tmp_path: Path) -> None:
    found = layers_in_engine(engine, tmp_path / "model.onnx", object())
    assert found == f"{engine} does not say here what it computes in"
