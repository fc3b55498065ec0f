"""What the linter asks of a graph with QuantizeLinear and DequantizeLinear."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cached_property

import numpy as np
import onnx

from edgeproof_deploy.onnx_graph import OnnxGraph, attribute, input_of
from edgeproof_deploy.qdq_passes import restored_by

QUANTISERS = ("QuantizeLinear", "DequantizeLinear")
LAYERS = ("Conv", "Gemm", "MatMul")
ABSORBED = ("Relu", "Clip")
"""What an engine computes together with the convolution before it."""


class QuantisedGraph(OnnxGraph):
    """An ONNX graph, with the layers that have weights and what is quantised around them.

    Attributes:
        layers: convolutions and products with stored weights, in order of execution.
    """

    def __init__(self, model: onnx.ModelProto):
        super().__init__(onnx.shape_inference.infer_shapes(model))
        self.layers = [node for node in self.of_type(*LAYERS) if self.weight_name(node)]

    @property
    def is_quantised(self) -> bool:
        """Whether the file has any quantiser."""
        return any(node.op_type in QUANTISERS for node in self.nodes)

    def weight_name(self, layer: onnx.NodeProto) -> str | None:
        """Return the name of a layer's stored weights, None where both factors are computed."""
        name = layer.input[1]
        while not self.is_constant(name):
            node = self.producer(name)
            if node is None or node.op_type not in (*QUANTISERS, "Transpose"):
                return None
            name = node.input[0]
        return name

    def weight_quantiser(self, layer: onnx.NodeProto) -> onnx.NodeProto | None:
        """Return the `DequantizeLinear` of a layer's weights."""
        return restored_by(self, layer.input[1])

    def has_integers(self, layer: onnx.NodeProto) -> bool:
        """Whether both the input and the weights of a layer are quantised."""
        return restored_by(self, layer.input[0]) is not None and self.weight_quantiser(layer) is not None

    def end_of(self, node: onnx.NodeProto) -> str:
        """Return the tensor after a node and the `Relu` or `Clip` that alone uses it."""
        name = node.output[0]
        user = self.only_consumer(name)
        return user.output[0] if user is not None and user.op_type in ABSORBED else name

    def only_quantised(self, name: str) -> bool:
        """Whether nothing but quantisers use a tensor."""
        users = self.consumers(name)
        return bool(users) and name not in self.outputs and all(u.op_type == "QuantizeLinear" for u in users)

    def behind(self, name: str) -> Iterator[onnx.NodeProto]:
        """Yield the nodes that use a tensor, and across quantisers those that use what these give."""
        for user in self.consumers(name):
            if user.op_type in QUANTISERS:
                yield from self.behind(user.output[0])
            else:
                yield user

    def before(self, name: str) -> onnx.NodeProto | None:
        """Return the node that a tensor comes from, across quantisers."""
        node = self.producer(name)
        while node is not None and node.op_type in QUANTISERS:
            node = self.producer(node.input[0])
        return node

    def convolution_before(self, name: str) -> onnx.NodeProto | None:
        """Return the convolution in integers that a tensor comes from, across quantisers."""
        node = self.before(name)
        return node if node is not None and node.op_type == "Conv" and self.has_integers(node) else None

    def code_of(self, node: onnx.NodeProto) -> tuple[np.ndarray | None, np.ndarray | None, np.dtype | None]:
        """Return scale, zero point and integer type of a quantiser, None for what is not stored."""
        zero = self.constant(input_of(node, 2))
        stored = self.constant(node.input[0]) if node.op_type == "DequantizeLinear" else None
        kind = zero.dtype if zero is not None else stored.dtype if stored is not None else None
        return self.constant(node.input[1]), zero, kind

    def has_step(self, node: onnx.NodeProto) -> bool:
        """Whether a node is a `QuantizeLinear` of a scale that can be worked with."""
        scale = self.constant(node.input[1]) if node.op_type == "QuantizeLinear" else None
        return scale is not None and bool((np.isfinite(scale) & (scale > 0)).all())

    def multiply_adds(self, layer: onnx.NodeProto) -> int | None:
        """Return how many a layer takes for one image, None where its output's shape is not known."""
        name = self.weight_name(layer)
        weight, out = self.shape(name) if name else None, self.shape(layer.output[0])
        if weight is None or out is None:
            return None
        places = out[2:] if layer.op_type == "Conv" else out[1:-1]
        sides = [side for side in (*weight, *places) if side is not None]
        return math.prod(sides) if len(sides) == len(weight) + len(places) else None

    @cached_property
    def all_multiply_adds(self) -> int | None:
        """Of all layers together."""
        counts = [self.multiply_adds(layer) for layer in self.layers]
        known = [count for count in counts if count is not None]
        return sum(known) if known and len(known) == len(counts) else None

    def share_of(self, layer: onnx.NodeProto) -> str:
        """Return `4.1% of the multiply-adds`, or less exact words where shapes are not known."""
        own, total = self.multiply_adds(layer), self.all_multiply_adds
        return f"{own / total:.1%} of the multiply-adds" if own and total else "this layer's multiply-adds"

    def is_depthwise(self, layer: onnx.NodeProto) -> bool:
        """Whether a convolution sees one channel at a time."""
        name = self.weight_name(layer)
        shape = self.shape(name) if name else None
        return layer.op_type == "Conv" and attribute(layer, "group", 1) > 1 and bool(shape and shape[1] == 1)
