"""Rules about the numbers of quantisers: scales, zero points and integer types."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx

from edgeproof_deploy.finding import Finding
from edgeproof_deploy.onnx_graph import input_of, label_of
from edgeproof_deploy.qdq_passes import Target
from edgeproof_deploy.quantised_graph import QUANTISERS, QuantisedGraph

SMALLEST_SCALE, LARGEST_SCALE = 1e-12, 1e3
"""Of one step. Beyond these no activation or weight of a trained network lies."""


def bad_scale(graph: QuantisedGraph, target: Target) -> Iterator[Finding]:
    """Scales that are zero, negative, not finite, or that no network has."""
    for node in graph.of_type(*QUANTISERS):
        scale, _, _ = graph.code_of(node)
        if scale is None or (node.op_type == "DequantizeLinear" and not graph.is_constant(node.input[0])):
            # A DequantizeLinear of computed values shares the scale of the QuantizeLinear before it.
            continue
        values = scale.astype(np.float64).reshape(-1)
        wrong = int((~np.isfinite(values) | (values <= 0)).sum())
        fix = "calibrate again with images that make this value move, or leave its layer out"
        if wrong:
            said = f"{wrong} of {values.size} scales are zero, negative or not finite"
            yield Finding(
                label_of(node), "bad_scale", "error", said, "the values behind it are lost or NaN", fix
            )
        elif _absurd(values, graph.constant(node.input[0])):
            said = f"a step is {values.min():.1e} to {values.max():.1e}"
            yield Finding(
                label_of(node), "bad_scale", "warning", said, "the values behind it are cut or lost", fix
            )


def not_symmetric(graph: QuantisedGraph, target: Target) -> Iterator[Finding]:
    """Unsigned integers or a zero point other than 0, which TensorRT does not read."""
    if target != "tensorrt":
        return
    for node in graph.of_type(*QUANTISERS):
        _, zero, kind = graph.code_of(node)
        unsigned = kind == np.uint8 or (kind is None and node.op_type == "QuantizeLinear")
        if unsigned or (zero is not None and zero.any()):
            point = 0 if zero is None else int(np.abs(zero.astype(np.int64)).max())
            said = f"integers are {kind or 'uint8'} with zero point {point}"
            fix = "write int8 with zero point 0 for TensorRT"
            yield Finding(label_of(node), "not_symmetric", "error", said, "TensorRT refuses the file", fix)


def integer_bias(graph: QuantisedGraph, target: Target) -> Iterator[Finding]:
    """A bias of 32-bit integers, which TensorRT does not read."""
    if target != "tensorrt":
        return
    for layer in graph.layers:
        bias = graph.producer(input_of(layer, 2))
        if bias is not None and bias.op_type == "DequantizeLinear":
            said = f"the bias of {label_of(layer)} is stored in integers"
            fix = "store it in floating point"
            yield Finding(label_of(bias), "integer_bias", "error", said, "TensorRT refuses the file", fix)


def unsigned_weights(graph: QuantisedGraph, target: Target) -> Iterator[Finding]:
    """Weights in unsigned integers, for which ONNX Runtime has a slower kernel."""
    for layer in graph.layers:
        node = graph.weight_quantiser(layer)
        if target == "onnxruntime" and node is not None and graph.code_of(node)[2] == np.uint8:
            cost = f"{graph.share_of(layer)} in a slower kernel"
            fix = "write int8 with zero point 0"
            yield Finding(label_of(layer), "unsigned_weights", "warning", "weights are uint8", cost, fix)


def per_tensor_weights(graph: QuantisedGraph, target: Target) -> Iterator[Finding]:
    """One scale for all the filters of a convolution."""
    for layer in graph.layers:
        node = graph.weight_quantiser(layer)
        if layer.op_type != "Conv" or node is None:
            continue
        scale, name = graph.shape(node.input[1]), graph.weight_name(layer)
        shape = graph.shape(name) if name else None
        if scale in ((), (1,)) and shape is not None and shape[0] != 1:
            kind = "a depthwise convolution" if graph.is_depthwise(layer) else "a convolution"
            said = f"the {shape[0]} filters of {kind} share one scale"
            cost = "accuracy: small filters are rounded to few values"
            fix = "one scale for each output channel (axis 0)"
            yield Finding(label_of(layer), "per_tensor_weights", "warning", said, cost, fix)


def two_scales(graph: QuantisedGraph, target: Target) -> Iterator[Finding]:
    """Quantisers of one tensor that do not agree."""
    seen: set[str] = set()
    for node in graph.of_type("QuantizeLinear"):
        name = node.input[0]
        if name in seen:
            continue
        seen.add(name)
        users = [user for user in graph.consumers(name) if user.op_type == "QuantizeLinear"]
        if len({_key(graph, user) for user in users}) > 1:
            names = ", ".join(label_of(user) for user in users)
            said = f"{len(users)} quantisers of {name} have different scales or types: {names}"
            cost = "the value is rounded and written more than once, and what it feeds does not fuse"
            yield Finding(
                label_of(node), "two_scales", "warning", said, cost, "share one quantiser among all users"
            )


def rounded_output(graph: QuantisedGraph, target: Target) -> Iterator[Finding]:
    """A quantiser on what the model gives."""
    for name in graph.outputs:
        node = graph.producer(name)
        if node is not None and node.op_type in QUANTISERS:
            said = f"the output {name} is rounded to 8 bits"
            cost = "accuracy: nothing behind it gains by that"
            yield Finding(
                label_of(node), "rounded_output", "warning", said, cost, "leave the output as computed"
            )


def _absurd(scales: np.ndarray, stored: np.ndarray | None) -> bool:
    """Whether a step is too small or too large; the scale of weights that are all zero does not matter."""
    wrong = (scales < SMALLEST_SCALE) | (scales > LARGEST_SCALE)
    if stored is not None and scales.size == stored.shape[0] > 1:
        wrong &= stored.reshape(len(stored), -1).any(axis=1)
    return bool(wrong.any())


def _key(graph: QuantisedGraph, node: onnx.NodeProto) -> tuple[object, ...]:
    scale, zero, kind = graph.code_of(node)
    return (
        None if scale is None else scale.tobytes(),
        0 if zero is None else zero.tolist(),
        kind or np.dtype(np.uint8),
    )
