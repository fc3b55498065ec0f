"""An ONNX file as a graph: who makes a tensor, who uses it, what is constant, which shapes are known."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

Shape = tuple[int | None, ...]


class OnnxGraph:
    """Maps over the main graph of a model, made once: make it again after a change.

    Attributes:
        nodes: the operators, in order of execution.
        outputs: names of what the model gives.
    """

    def __init__(self, model: onnx.ModelProto):
        graph = model.graph
        self.nodes = list(graph.node)
        self.inputs = [value.name for value in graph.input]
        self.outputs = [value.name for value in graph.output]
        self._producers = {name: node for node in graph.node for name in node.output}
        self._consumers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
        for node in graph.node:
            for name in dict.fromkeys(node.input):
                self._consumers[name].append(node)
        self._initializers = {tensor.name: tensor for tensor in graph.initializer}
        values = (*graph.value_info, *graph.input, *graph.output)
        self._shapes = {value.name: _shape_of(value) for value in values}
        self._kinds = {value.name: value.type.tensor_type.elem_type for value in values}

    def producer(self, name: str) -> onnx.NodeProto | None:
        """Return the node that makes a tensor; None for an input or a stored one."""
        return self._producers.get(name)

    def consumers(self, name: str) -> list[onnx.NodeProto]:
        """Return the nodes that use a tensor, each once."""
        return self._consumers.get(name, [])

    def only_consumer(self, name: str) -> onnx.NodeProto | None:
        """Return the node that uses a tensor, if there is just one and the tensor is no output."""
        users = self.consumers(name)
        return users[0] if len(users) == 1 and name not in self.outputs else None

    def constant(self, name: str) -> np.ndarray | None:
        """Return the values of a stored tensor, or of a `Constant` node; None for anything else."""
        if name in self._initializers:
            return numpy_helper.to_array(self._initializers[name])
        node = self._producers.get(name)
        if node is None or node.op_type != "Constant":
            return None
        value = attribute(node, "value")
        return numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else None

    def is_constant(self, name: str) -> bool:
        """Whether a tensor is stored in the file."""
        node = self._producers.get(name)
        return name in self._initializers or (node is not None and node.op_type == "Constant")

    def shape(self, name: str) -> Shape | None:
        """Return the sides of a tensor, None for a side that is not fixed; None where nothing is known."""
        if name in self._initializers:
            return tuple(self._initializers[name].dims)
        return self._shapes.get(name)

    def kinds(self) -> dict[str, int]:
        """Return the element types of all tensors whose type the file says, by name."""
        return {**self._kinds, **{name: tensor.data_type for name, tensor in self._initializers.items()}}

    def of_type(self, *kinds: str) -> Iterator[onnx.NodeProto]:
        """Yield the nodes of these operators."""
        for node in self.nodes:
            if node.op_type in kinds:
                yield node


def attribute(node: onnx.NodeProto, name: str, default: Any = None) -> Any:
    """Return an attribute's value, text as `str`."""
    for found in node.attribute:
        if found.name == name:
            value = helper.get_attribute_value(found)
            return value.decode() if isinstance(value, bytes) else value
    return default


def set_attribute(node: onnx.NodeProto, name: str, value: Any) -> None:
    """Set an attribute, or replace it."""
    kept = [found for found in node.attribute if found.name != name]
    del node.attribute[:]
    node.attribute.extend([*kept, helper.make_attribute(name, value)])


def input_of(node: onnx.NodeProto, place: int) -> str:
    """Return the name of an input, empty where it is left out."""
    return node.input[place] if len(node.input) > place else ""


def label_of(node: onnx.NodeProto) -> str:
    """Return a node's name, or its first output where it has none."""
    return node.name or node.output[0]


def remove_nodes(model: onnx.ModelProto, gone: Collection[str]) -> None:
    """Remove the nodes whose first output is named, then stored tensors and notes that nothing uses."""
    graph = model.graph
    kept = [node for node in graph.node if node.output[0] not in gone]
    used = {name for node in kept for name in node.input} | {value.name for value in graph.output}
    made = {name for node in kept for name in node.output}
    weights = [tensor for tensor in graph.initializer if tensor.name in used]
    notes = [value for value in graph.value_info if value.name in used & (made | {w.name for w in weights})]
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.node.extend(kept)
    graph.initializer.extend(weights)
    graph.value_info.extend(notes)


def _shape_of(value: onnx.ValueInfoProto) -> Shape | None:
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        return None
    return tuple(side.dim_value if side.HasField("dim_value") else None for side in tensor.shape.dim)
