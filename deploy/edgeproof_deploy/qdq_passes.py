"""Changes of a graph with QuantizeLinear and DequantizeLinear, after which an engine finds what it fuses."""

from __future__ import annotations

from typing import Literal

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgeproof_deploy.onnx_graph import OnnxGraph, attribute, input_of, label_of, remove_nodes
from edgeproof_deploy.onnx_passes import fold_pads, is_restored_matrix, transpose_weights

Target = Literal["onnxruntime", "tensorrt"]
MOVES = ("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Identity", "Slice", "Gather", "MaxPool")
"""Operators that give some of the values that they are given; ONNX Runtime fuses across them."""


def fit_to_engine(model: onnx.ModelProto, target: Target) -> dict[str, int]:
    """Make every change that the engine of `target` is better off with, in place.

    Returns:
        how often each was made.
    """
    made = {"fold_pads": fold_pads(model)}
    if target == "onnxruntime":
        made |= {"drop_clips": drop_clips(model), "integer_biases": integer_biases(model)}
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


def integer_biases(model: onnx.ModelProto) -> int:
    """Store the bias of every `Gemm` with integer factors in 32-bit integers, in place.

    ONNX Runtime then computes it in integers; else it restores the weights at every run. A bias is rounded to
    a step of input's scale times weights' scale, as ONNX Runtime itself does to those of convolutions.

    Returns:
        how many were changed.
    """
    graph = OnnxGraph(model)
    changed = 0
    for gemm in list(graph.of_type("Gemm")):
        made = _integer_bias(graph, gemm)
        if made is None:
            continue
        integers, step = made
        name = f"{label_of(gemm)}.bias"
        stored = {"integers": integers, "scale": step, "zero": np.zeros(step.shape, np.int32)}
        for part, values in stored.items():
            model.graph.initializer.append(numpy_helper.from_array(values, f"{name}.{part}"))
        inputs = [f"{name}.{part}" for part in stored]
        restored = helper.make_node("DequantizeLinear", inputs, [f"{name}.restored"], name, axis=0)
        gemm.input[2] = restored.output[0]
        model.graph.node.insert(0, restored)
        changed += 1
    remove_nodes(model, ())
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


def _integer_bias(graph: OnnxGraph, gemm: onnx.NodeProto) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the bias in steps and the size of a step, None where it cannot be stored like that."""
    bias = graph.constant(input_of(gemm, 2))
    data, weight = restored_by(graph, gemm.input[0]), restored_by(graph, gemm.input[1])
    plain = attribute(gemm, "transA", 0) == 0 and attribute(gemm, "transB", 0) == 1
    plain = plain and attribute(gemm, "alpha", 1.0) == attribute(gemm, "beta", 1.0) == 1.0
    if bias is None or bias.ndim != 1 or data is None or weight is None or not plain:
        return None
    scales = graph.constant(data.input[1]), graph.constant(weight.input[1])
    if not is_restored_matrix(graph, weight) or scales[0] is None or scales[1] is None or scales[0].size != 1:
        return None
    step = (scales[0].reshape(()) * np.broadcast_to(scales[1], bias.shape)).astype(np.float32)
    with np.errstate(divide="ignore", invalid="ignore"):
        integers = np.rint(bias.astype(np.float64) / step)
    if not (np.abs(integers) < np.iinfo(np.int32).max).all():
        return None
    return integers.astype(np.int32), step
