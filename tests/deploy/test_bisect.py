from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tests.deploy.small_graphs import Builder, exported

from edgeproof_deploy.bisect import LIMITS, Arrays, Side, bisect, common_tensors, relative_error, with_outputs
from edgeproof_deploy.bundle_bisect import bisect_models, in_evaluator, in_onnxruntime, marked_plan
from edgeproof_deploy.qdq_passes import fit_to_engine

IMAGES = {"image": np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32)}
PLAIN = partial(in_onnxruntime, optimise=False, threads=1)
OPTIMISED = partial(in_onnxruntime, optimise=True, threads=1)
LIMIT = LIMITS["fp32"]


def network() -> onnx.ModelProto:
    """Three convolutions with rectifiers between them: nodes first, Relu, second, Relu, third."""
    b = Builder()
    x = b.add("Relu", b.conv("image", (8, 3), name="first", weight=b.float_weight(8, 3, 3, 3)))
    x = b.add("Relu", b.conv(x, (8, 8), name="second", weight=b.float_weight(8, 8, 3, 3)))
    return b.model(b.conv(x, (8, 8), name="third", weight=b.float_weight(8, 8, 3, 3)), (8, 8, 8))


def changed_weight(model: onnx.ModelProto, node: str, by: float) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    name = next(one for one in copy.graph.node if one.name == node).input[1]
    tensor = next(one for one in copy.graph.initializer if one.name == name)
    values = numpy_helper.to_array(tensor).copy()
    values[0, 0, 0, 0] += by
    tensor.CopyFrom(numpy_helper.from_array(values, name))
    return copy


def test_bisect__engines_that_agree() -> None:
    model = network()
    assert bisect(Side("a", model, PLAIN), Side("b", model, OPTIMISED), IMAGES, LIMIT) is None
    assert bisect(Side("a", model, PLAIN), Side("b", model, in_evaluator), IMAGES, LIMIT) is None


@pytest.mark.parametrize(("node", "place"), [("first", 1), ("second", 3), ("third", 5)])
def test_bisect__names_the_node_whose_weight_was_changed(node: str, place: int) -> None:
    model = network()
    other = changed_weight(model, node, 0.1)
    found = bisect(Side("a", model, PLAIN), Side("b", other, OPTIMISED), IMAGES, LIMIT)
    assert found is not None
    assert (found.node, found.operator, found.place, found.nodes) == (node, "Conv", place, 5)
    assert not found.in_fusion
    assert found.error is not None
    assert found.error > LIMIT
    assert found.words().startswith(f"node {place} of 5, Conv '{node}': differs by 0.")
    small = changed_weight(model, node, 1e-6)
    assert bisect(Side("a", model, PLAIN), Side("b", small, PLAIN), IMAGES, LIMIT) is None


def scaled(kind: int) -> onnx.ModelProto:
    """Multiply by 3e4, then by 1e-4: in half precision the first product overflows."""
    numbers = np.float16 if kind == TensorProto.FLOAT16 else np.float32
    factors = {"large": 3e4, "small": 1e-4}
    nodes = [
        helper.make_node("Cast", ["image"], ["cast"], name="cast", to=kind),
        helper.make_node("Mul", ["cast", "large"], ["up"], name="scale_up"),
        helper.make_node("Mul", ["up", "small"], ["down"], name="scale_down"),
        helper.make_node("Cast", ["down"], ["embedding"], name="back", to=TensorProto.FLOAT),
    ]
    shape = ["batch", 3, 8, 8]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(np.array(value, numbers), name) for name, value in factors.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def test_bisect__names_the_node_that_overflows_in_half_precision() -> None:
    whole, half = scaled(TensorProto.FLOAT), scaled(TensorProto.FLOAT16)
    found = bisect(Side("fp32", whole, PLAIN), Side("fp16", half, PLAIN), IMAGES, LIMITS["fp16"])
    assert found is not None
    assert (found.node, found.error) == ("scale_up", None)
    assert found.words() == "node 2 of 4, Mul 'scale_up': one side is not finite"


def careless(model: onnx.ModelProto, inputs: Arrays) -> Arrays:
    """An optimiser that forgets the rectifier behind a convolution if nobody looks at the two."""
    outputs = {value.name for value in model.graph.output}
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    relu = next(node for node in copy.graph.node if node.input[0] == model.graph.node[2].output[0])
    if not {relu.input[0], relu.output[0]} & outputs:
        relu.op_type = "Identity"
    return PLAIN(copy, inputs)


def test_bisect__a_fault_that_marking_hides_is_found_by_halves() -> None:
    model = network()
    found = bisect(Side("a", model, PLAIN), Side("b", model, careless), IMAGES, LIMIT)
    assert found is not None
    assert found.in_fusion
    assert found.node == "third"
    assert found.words().endswith("only where it may be fused with its neighbours")


def test_bisect__models_without_a_common_tensor() -> None:
    other = network()
    for node in other.graph.node:
        node.output[:] = [f"other_{name}" for name in node.output]
        node.input[:] = [
            f"other_{name}" if name.startswith(("embedding", "Conv", "Relu")) else name for name in node.input
        ]
    assert common_tensors(network(), other) == []
    with pytest.raises(ValueError, match="no tensor of the same name"):
        bisect(Side("a", network(), PLAIN), Side("b", other, PLAIN), IMAGES, LIMIT)


@pytest.mark.parametrize(
    ("reference", "candidate", "error"),
    [
        ([0.0, 2.0], [0.0, 2.0], 0.0),
        ([0.0, 2.0], [0.5, 2.0], 0.25),
        ([4.0, 4.0], [4.0, 5.0], 0.25),
        ([0.0, 0.0], [0.0, 0.5], 0.5),
        ([0.0, np.inf], [0.0, np.inf], 0.0),
        ([0.0, np.nan], [0.0, np.nan], 0.0),
        ([0.0, 1.0], [0.0, np.inf], None),
        ([np.inf, np.inf], [np.inf, -np.inf], None),
        ([0.0, 1.0], [0.0], None),
    ],
)
def test_relative_error__by_hand(reference: list[float], candidate: list[float], error: float | None) -> None:
    assert relative_error(np.array(reference), np.array(candidate)) == error


def test_bisect_models__a_student_in_every_engine_here(onnx_file: Path) -> None:
    model = onnx.load(onnx_file)
    images = np.random.default_rng(0).standard_normal((2, 3, 32, 32)).astype(np.float32)
    lines = list(bisect_models({"model.onnx": model}, images, threads=1))
    plain = [line for line in lines if line.startswith("bisect: model.onnx: onnxruntime unoptimised and")]
    assert len(plain) >= 2
    assert all("agree at every node within 0.0001 of the range" in line for line in plain)


def test_bisect_models__a_rounded_network_in_integers_and_out_of_them() -> None:
    model = exported()
    fit_to_engine(model, "onnxruntime")
    images = np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32)
    lines = list(bisect_models({"model.int8.onnx": model}, images, threads=1))
    assert [line for line in lines if "onnxruntime unoptimised and onnxruntime agree" in line]


def test_marked_plan__is_built_with_the_marked_tensors(onnx_file: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    model = onnx.load(onnx_file)
    first = model.graph.node[0].output[0]
    built = marked_plan(with_outputs(model, [first, "embedding"]), "tensorrt_rtx", (2, 3, 32, 32), "8.6")
    assert first.encode() in built.plan
    assert len(built.plan) > 1000
