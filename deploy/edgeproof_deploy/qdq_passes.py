"""Changes of a graph with QuantizeLinear and DequantizeLinear, after which an engine finds what it fuses."""

from __future__ import annotations

from typing import Literal

import numpy as np
import onnx
from onnx import helper

from edgeproof_deploy.onnx_graph import OnnxGraph, attribute, input_of, remove_nodes
from edgeproof_deploy.onnx_passes import fold_pads, is_restored_matrix, transpose_weights

Target = Literal["onnxruntime", "tensorrt"]
MOVES = ("Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Identity", "Slice", "Gather", "MaxPool")
"""Operators whose results are among the values that they are given."""


def fit_to_engine(model: onnx.ModelProto, target: Target) -> dict[str, int]:
    """Make every change that the engine of `target` is better off with, in place.

    Returns:
        how often each was made.
    """
    made = {"fold_pads": fold_pads(model)}
    if target == "onnxruntime":
        made |= {"drop_clips": drop_clips(model), "split_gemms": split_gemms(model)}
    return made | {"transpose_weights": transpose_weights(model)}


def drop_clips(model: onnx.ModelProto) -> int:
    """Remove every `Relu` and `Clip` that only quantisers see which cut off as much themselves, in place.

    A quantiser of zero point 0 over 0 to 255 gives 0 for what is negative: the `Relu` before it changes
    nothing. ONNX Runtime sees that too, but not when the upper end of the range is one rounding error above
    that of the `Clip`.

    Returns:
        how many are gone.
    """
    graph = OnnxGraph(model)
    gone = []
    for node in graph.of_type("Relu", "Clip"):
        bounds = bounds_of(graph, node)
        users = graph.consumers(node.output[0])
        if bounds is None or not users or node.output[0] in graph.outputs:
            continue
        if all(saturates(graph, user, *bounds) for user in users):
            for user in users:
                user.input[0] = node.input[0]
            gone.append(node.output[0])
    remove_nodes(model, gone)
    return len(gone)


def split_gemms(model: onnx.ModelProto) -> int:
    """Make Add(MatMul(x, Transpose(W)), b) of every quantised `Gemm`, in place.

    ONNX Runtime computes a `Gemm` of 8 bits with a result in floating point only if its bias is of 32-bit
    integers; a `MatMul` has no such condition. `transpose_weights` then removes the `Transpose`.

    Returns:
        how many were changed.
    """
    graph = OnnxGraph(model)
    nodes: list[onnx.NodeProto] = []
    changed = 0
    for node in graph.nodes:
        parts = _split(graph, node) if node.op_type == "Gemm" else None
        nodes.extend(parts or [node])
        changed += parts is not None
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return changed


def restored_by(graph: OnnxGraph, name: str) -> onnx.NodeProto | None:
    """Return the `DequantizeLinear` that a tensor comes from, across nodes that only move values."""
    node = graph.producer(name)
    while node is not None and node.op_type in MOVES:
        node = graph.producer(node.input[0])
    return node if node is not None and node.op_type == "DequantizeLinear" else None


def bounds_of(graph: OnnxGraph, node: onnx.NodeProto) -> tuple[float, float] | None:
    """Return between what a `Relu` or `Clip` keeps values, None where that is not stored in the file."""
    if node.op_type == "Relu":
        return 0.0, float("inf")
    bounds = []
    for place, default in ((1, -np.inf), (2, np.inf)):
        name = input_of(node, place)
        value = graph.constant(name) if name else np.asarray(default)
        if value is None or value.size != 1:
            return None
        bounds.append(float(value.reshape(())))
    return bounds[0], bounds[1]


def saturates(graph: OnnxGraph, node: onnx.NodeProto, low: float, high: float) -> bool:
    """Whether a quantiser gives the same for values with and without these bounds."""
    if node.op_type != "QuantizeLinear":
        return False
    scale, zero = graph.constant(node.input[1]), graph.constant(input_of(node, 2))
    if scale is None or zero is None or scale.size != 1 or zero.dtype not in (np.uint8, np.int8):
        return False
    ends, steps, point = np.iinfo(zero.dtype), float(scale.reshape(())), int(zero.reshape(()))
    if not (np.isfinite(steps) and steps > 0):
        return False
    lowest = round(low / steps) + point if np.isfinite(low) else ends.min
    highest = round(high / steps) + point if np.isfinite(high) else ends.max
    return lowest <= ends.min and highest >= ends.max


def _split(graph: OnnxGraph, gemm: onnx.NodeProto) -> list[onnx.NodeProto] | None:
    weight, quantised = graph.producer(gemm.input[1]), restored_by(graph, gemm.input[0]) is not None
    plain = attribute(gemm, "transA", 0) == 0 and attribute(gemm, "transB", 0) == 1
    plain = plain and attribute(gemm, "alpha", 1.0) == attribute(gemm, "beta", 1.0) == 1.0
    if not (quantised and plain and weight is not None and is_restored_matrix(graph, weight)):
        return None
    name, out = gemm.name or gemm.output[0], gemm.output[0]
    turned = helper.make_node(
        "Transpose", [gemm.input[1]], [f"{out}.weight"], f"{name}_transpose", perm=[1, 0]
    )
    bias = input_of(gemm, 2)
    product = helper.make_node(
        "MatMul", [gemm.input[0], f"{out}.weight"], [f"{out}.product" if bias else out], f"{name}_matmul"
    )
    added = [helper.make_node("Add", [product.output[0], bias], [out], f"{name}_bias")] if bias else []
    return [turned, product, *added]
