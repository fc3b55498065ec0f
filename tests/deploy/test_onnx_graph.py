from __future__ import annotations

import numpy as np
import onnx
from tests.deploy.small_graphs import Builder

from edgeproof_deploy.onnx_graph import OnnxGraph, attribute, input_of, label_of, remove_nodes, set_attribute


def net() -> onnx.ModelProto:
    b = Builder()
    x = b.conv("image", (4, 3), name="first", bias=b.store(np.arange(4, dtype=np.float32), "bias"))
    return b.model(b.add("Add", b.add("Relu", x), x), (4, 8, 8))


def test_onnx_graph__producers_and_consumers() -> None:
    model = net()
    graph = OnnxGraph(model)
    conv = next(graph.of_type("Conv"))
    assert graph.inputs == ["image"]
    assert graph.outputs == ["embedding"]
    assert graph.producer("image") is None
    assert graph.producer(conv.output[0]) == conv
    assert [node.op_type for node in graph.consumers(conv.output[0])] == ["Relu", "Add"]
    assert graph.only_consumer(conv.output[0]) is None
    assert graph.only_consumer("image") == conv
    assert graph.only_consumer("embedding") is None


def test_onnx_graph__constants_and_shapes() -> None:
    model = onnx.shape_inference.infer_shapes(net())
    graph = OnnxGraph(model)
    conv = next(graph.of_type("Conv"))
    np.testing.assert_array_equal(graph.constant("bias"), np.arange(4))
    assert graph.constant("image") is None
    assert graph.is_constant("bias")
    assert not graph.is_constant("image")
    assert graph.shape("bias") == (4,)
    assert graph.shape("image") == (None, 3, 8, 8)
    assert graph.shape(conv.output[0]) == (None, 4, 8, 8)
    assert graph.shape("nothing") is None


def test_onnx_graph__constant_nodes() -> None:
    b = Builder()
    two = b.add("Constant", value=onnx.numpy_helper.from_array(np.asarray(2, np.float32)))
    graph = OnnxGraph(b.model(b.add("Mul", "image", two), (3, 8, 8)))
    assert graph.constant(two) == np.float32(2)
    assert graph.is_constant(two)


def test_attribute__read_and_replaced() -> None:
    conv = next(OnnxGraph(net()).of_type("Conv"))
    assert attribute(conv, "pads") == [1, 1, 1, 1]
    assert attribute(conv, "auto_pad", "NOTSET") == "NOTSET"
    set_attribute(conv, "pads", [0, 1, 2, 3])
    set_attribute(conv, "auto_pad", "VALID")
    assert attribute(conv, "pads") == [0, 1, 2, 3]
    assert attribute(conv, "auto_pad") == "VALID"
    assert input_of(conv, 2) == "bias"
    assert input_of(conv, 3) == ""
    assert label_of(conv) == "first"
    conv.name = ""
    assert label_of(conv) == conv.output[0]


def test_remove_nodes__with_what_only_they_used() -> None:
    model = net()
    conv = next(OnnxGraph(model).of_type("Conv"))
    for node in model.graph.node:
        node.input[:] = ["image" if name == conv.output[0] else name for name in node.input]
    remove_nodes(model, [conv.output[0]])
    assert [node.op_type for node in model.graph.node if node.op_type != "DequantizeLinear"] == [
        "Relu",
        "Add",
    ]
    assert "bias" not in [tensor.name for tensor in model.graph.initializer]
