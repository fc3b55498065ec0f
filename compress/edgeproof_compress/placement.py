"""Which values are quantised: the layers' inputs, and what an engine needs beside these to stay in integers.

ONNX Runtime turns a convolution or an addition into its integer kernel only where inputs and output are
quantised, so the outputs of convolutions and both sides of residual additions are too. TensorRT fuses a
residual addition into the convolution of its main branch, and wants the shortcut side quantised, no more.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import fx, nn

from edgeproof_compress.fold import is_plain_layer
from edgeproof_compress.graph import calls, does_nothing, module_of, source_of, users_of

Target = Literal["onnxruntime", "tensorrt"]
TARGETS: tuple[Target, ...] = ("onnxruntime", "tensorrt")
RECTIFIERS = (nn.ReLU, nn.ReLU6)
RECTIFYING = (torch.relu, torch.nn.functional.relu, torch.nn.functional.relu6, "relu")
SAME_VALUES = (nn.MaxPool2d, nn.Flatten)
ADDITIONS = (operator.add, torch.add, "add")


@dataclass
class Placement:
    """Where quantisers go.

    Attributes:
        layers: nodes of the layers whose weights are quantised.
        values: nodes whose value is quantised, with the engines for which it is.
        aliases: node -> node that holds the same values, whose quantiser is used again.
    """

    layers: list[fx.Node] = field(default_factory=list)
    values: dict[fx.Node, set[Target]] = field(default_factory=dict)
    aliases: dict[fx.Node, fx.Node] = field(default_factory=dict)

    def add(self, node: fx.Node, target: Target) -> None:
        """Quantise a value for an engine."""
        self.values.setdefault(node, set()).add(target)


def layer_nodes(graph: fx.GraphModule) -> dict[str, fx.Node]:
    """Return the nodes of all layers that can be quantised, by name; one that is called twice cannot."""
    found = [(str(node.target), node) for node, module in calls(graph) if is_plain_layer(module)]
    names = [name for name, _ in found]
    return {name: node for name, node in found if names.count(name) == 1}


def place(graph: fx.GraphModule, layers: list[str]) -> Placement:
    """Return where quantisers go for these layers.

    Args:
        graph: with folded batch norms.
        layers: names of the layers that are computed in integers.
    """
    nodes = layer_nodes(graph)
    placement = Placement([nodes[name] for name in layers])
    for node in placement.layers:
        for target in TARGETS:
            quantise(graph, placement, node.all_input_nodes[0], target)
    convolutions = [node for node in placement.layers if isinstance(module_of(graph, node), nn.Conv2d)]
    for node in convolutions:
        end = rectified(graph, node)
        if not is_output(graph, end) and not is_only_added(graph, end):
            quantise(graph, placement, end, "onnxruntime")
    for node in graph.graph.nodes:
        if node.target in ADDITIONS and len(node.all_input_nodes) == 2:
            place_addition(graph, placement, node, convolutions)
    return placement


def place_addition(
    graph: fx.GraphModule, placement: Placement, node: fx.Node, convolutions: list[fx.Node]
) -> None:
    """Quantise around a residual addition of which at least one side is a quantised convolution's."""
    sides = [source_of(graph, side) for side in node.all_input_nodes]
    of_convolution = [side in convolutions for side in sides]
    if not any(of_convolution) or any(side.op == "get_attr" for side in sides):
        return
    for side in sides:
        quantise(graph, placement, side, "onnxruntime")
    end = rectified(graph, node)
    if not is_output(graph, end):
        quantise(graph, placement, end, "onnxruntime")
    if all(of_convolution):
        depths = [depth(graph, side, convolutions) for side in sides]
        shortcut = sides[0] if depths[0] < depths[1] else sides[1]
    else:
        shortcut = sides[of_convolution.index(False)]
    quantise(graph, placement, shortcut, "tensorrt")


def quantise(graph: fx.GraphModule, placement: Placement, value: fx.Node, target: Target) -> None:
    """Quantise a value, and where it is a choice among the values of another one, that one with it."""
    value = source_of(graph, value)
    placement.add(value, target)
    if isinstance(module_of(graph, value), SAME_VALUES):
        before = source_of(graph, value.all_input_nodes[0])
        placement.aliases[value] = before
        quantise(graph, placement, before, target)


def rectified(graph: fx.GraphModule, node: fx.Node) -> fx.Node:
    """Return the ReLU that alone uses a value, which an engine computes with it, or the node itself."""
    users = users_of(graph, node)
    if len(users) == 1 and is_rectifier(graph, users[0]):
        return users[0]
    return node


def is_rectifier(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Whether a node cuts off negative values, and nothing below any other bound than 0."""
    module = module_of(graph, node)
    if module is not None:
        return isinstance(module, RECTIFIERS)
    return node.target in RECTIFYING


def goes_with_its_input(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Whether a value may be quantised because its input comes out of a convolution."""
    same = isinstance(module_of(graph, node), SAME_VALUES) or does_nothing(graph, node)
    return same or is_rectifier(graph, node) or node.target in ADDITIONS


def is_output(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Whether a value is what the graph gives."""
    return any(user.op == "output" for user in users_of(graph, node))


def is_only_added(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Whether a value goes into one addition of two values and nowhere else: that is placed by itself."""
    users = users_of(graph, node)
    return len(users) == 1 and users[0].target in ADDITIONS and len(users[0].all_input_nodes) == 2


def depth(graph: fx.GraphModule, node: fx.Node, convolutions: list[fx.Node]) -> int:
    """Return the largest number of convolutions on a way from the input to a node."""
    counts: dict[fx.Node, int] = {}
    for one in graph.graph.nodes:
        before = max((counts[source] for source in one.all_input_nodes), default=0)
        counts[one] = before + (one in convolutions)
        if one is node:
            break
    return counts[node]
