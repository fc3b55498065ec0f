"""Channel spaces: layers that must agree on the order of channels, found in a student's graph.

A convolution or linear layer starts a new order at its output. Batch norms, activations, pooling and
depthwise convolutions carry it on; additions and products tie two orders together; a convolution or linear
layer reads it and ends it. Where a layer's channels may be put into another order, all that carry or read it
follow, and the network computes what it did. A space that meets anything else keeps its order, as do the
image and the embedding.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from edgeproof_compress.channel_rules import (
    ELEMENTWISE,
    ELEMENTWISE_MODULES,
    MEANS,
    OF_TWO,
    POOLS,
    RESHAPES,
    SIZES,
    is_elementwise_norm,
    shapes_of,
)
from edgeproof_compress.eligibility import is_layer, weight_of
from edgeproof_compress.fold import is_plain_layer
from edgeproof_compress.graph import module_of, trace
from edgeproof_train.student import Student

FIXED = 0


@dataclass(frozen=True)
class ChannelSpace:
    """Channels whose order may be changed, with every module that has to follow, by path.

    Attributes:
        channels: how many.
        producers: layers whose outputs they are.
        followers: batch norms and depthwise convolutions that work on them one by one.
        consumers: layers that read them.
    """

    channels: int
    producers: tuple[str, ...]
    followers: tuple[str, ...]
    consumers: tuple[str, ...]

    @property
    def name(self) -> str:
        """The layer that makes them first."""
        return self.producers[0]


@dataclass(frozen=True)
class Carried:
    """Which set of tied channels a value has, and along which of its axes."""

    ties: int
    axis: int


def channel_spaces(student: Student, kept: Iterable[str] = ()) -> list[ChannelSpace]:
    """Return the spaces whose order may be changed, in order of execution.

    Args:
        student: looked at only.
        kept: paths of modules whose outputs keep their order, or `PATH:input` for their inputs: those that
            losses look at.

    Raises:
        UsageError: the student cannot be shown as a graph.
    """
    walk = Walk(trace(student), student)
    for node in walk.graph.graph.nodes:
        walk.visit(node)
    for path in kept:
        walk.keep(path)
    walk.keep_shared_weights()
    return walk.spaces()


class Walk:
    """One pass over a graph that ties channels together."""

    def __init__(self, graph: fx.GraphModule, student: Student):
        self.graph = graph
        self.shapes = shapes_of(graph, student.preprocess.image_size)
        self.parents = [FIXED]
        self.values: dict[fx.Node, Carried] = {}
        self.produced: dict[str, int] = {}
        self.followed: dict[str, int] = {}
        self.consumed: dict[str, int] = {}

    def visit(self, node: fx.Node) -> None:
        """Tie what a node ties, and note what its own value carries."""
        if node.op == "output":
            self.fix(node.all_input_nodes)
        elif node.op == "get_attr":
            self.keep_owner(str(node.target))
        elif node.op == "call_module":
            self.visit_module(node)
        elif node.op in ("call_function", "call_method"):
            self.visit_function(node)
        if node in self.shapes:
            self.values.setdefault(node, Carried(FIXED, 1))

    def visit_module(self, node: fx.Node) -> None:
        """Visit a node that calls a module."""
        module, name = module_of(self.graph, node), str(node.target)
        value = node.all_input_nodes[0] if len(node.all_input_nodes) == 1 else None
        carried = self.values.get(value) if value is not None else None
        if value is None or carried is None or node not in self.shapes:
            self.fix(node.all_input_nodes)
        elif isinstance(module, nn.Conv2d | nn.Linear) and is_plain_layer(module):
            self.visit_layer(node, module, value, carried)
        elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) and is_elementwise_norm(module):
            self.tie_name(self.followed, name, carried.ties)
            self.values[node] = carried
        elif isinstance(module, (*ELEMENTWISE_MODULES, *POOLS)):
            self.values[node] = carried
        elif isinstance(module, nn.Flatten):
            self.reshape(node, value, carried)
        else:
            self.fix([value])

    def visit_layer(
        self, node: fx.Node, module: nn.Conv2d | nn.Linear, value: fx.Node, carried: Carried
    ) -> None:
        """Visit a convolution or linear layer: it reads channels and makes others, or carries them on."""
        name = str(node.target)
        axis = 1 if isinstance(module, nn.Conv2d) else len(self.shapes[value]) - 1
        groups = module.groups if isinstance(module, nn.Conv2d) else 1
        inputs, outputs = module.weight.shape[1] * groups, module.weight.shape[0]
        if groups > 1 and groups == inputs == outputs and carried.axis == axis:
            self.tie_name(self.followed, name, carried.ties)
            self.values[node] = carried
            return
        if groups > 1:
            self.fix([value])
            return
        reads = carried.ties if carried.axis == axis else FIXED
        if reads == FIXED:
            self.fix([value])
        self.tie_name(self.consumed, name, reads)
        made = self.produced.get(name)
        if made is None:
            made = self.produced[name] = self.new()
        self.values[node] = Carried(made, axis)

    def visit_function(self, node: fx.Node) -> None:
        """Visit a node that calls a function or a method."""
        tensors = [value for value in node.all_input_nodes if value in self.shapes]
        if node not in self.shapes:
            if node.target not in SIZES:
                self.fix(tensors)
        elif len(tensors) == 1 and node.target in (*ELEMENTWISE, *OF_TWO):
            self.values[node] = self.values[tensors[0]]
        elif len(tensors) == 2 and node.target in OF_TWO:
            self.tie_values(node, *tensors)
        elif len(tensors) == 1 and node.target in MEANS:
            self.mean(node, tensors[0])
        elif len(tensors) == 1 and node.target in RESHAPES:
            self.reshape(node, tensors[0], self.values[tensors[0]])
        else:
            self.fix(tensors)

    def tie_values(self, node: fx.Node, one: fx.Node, other: fx.Node) -> None:
        """Tie the channels of two values that are added or multiplied."""
        mine, theirs = self.values[one], self.values[other]
        first, second = self.shapes[one], self.shapes[other]
        alike = len(first) == len(second) and mine.axis == theirs.axis
        if not alike or first[mine.axis] != second[mine.axis]:
            self.fix([one, other])
            return
        self.tie(mine.ties, theirs.ties)
        self.values[node] = mine

    def mean(self, node: fx.Node, value: fx.Node) -> None:
        """Carry channels on over a mean along other axes."""
        carried, rank = self.values[value], len(self.shapes[value])
        given = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else None)
        axes = [given] if isinstance(given, int) else list(given) if isinstance(given, tuple | list) else []
        whole = [axis % rank for axis in axes if isinstance(axis, int)]
        if not whole or len(whole) != len(axes) or carried.axis in whole:
            self.fix([value])
            return
        kept = len(self.shapes[node]) == rank
        self.values[node] = Carried(
            carried.ties, carried.axis - (not kept) * sum(a < carried.axis for a in whole)
        )

    def reshape(self, node: fx.Node, value: fx.Node, carried: Carried) -> None:
        """Carry channels on where a new shape only adds or drops axes of one element."""
        before, after = self.shapes[value], self.shapes[node]
        long_before = [axis for axis, size in enumerate(before) if size != 1]
        long_after = [axis for axis, size in enumerate(after) if size != 1]
        same = [before[axis] for axis in long_before] == [after[axis] for axis in long_after]
        if not same or carried.axis not in long_before:
            self.fix([value])
            return
        self.values[node] = Carried(carried.ties, long_after[long_before.index(carried.axis)])

    def keep(self, path: str) -> None:
        """Let what a module gives, or for `PATH:input` is given, keep its order."""
        path, _, side = path.partition(":")
        inside = {node for node in self.graph.graph.nodes if is_inside(node, path)}
        for node in inside:
            if side:
                self.fix(value for value in node.all_input_nodes if value not in inside)
            elif any(user not in inside for user in node.users):
                self.fix([node])

    def keep_owner(self, attribute: str) -> None:
        """Let layers and norms whose weight is used by itself keep their order."""
        for names in (self.produced, self.followed, self.consumed):
            owner = attribute.rpartition(".")[0]
            self.tie_name(names, owner, FIXED)

    def keep_shared_weights(self) -> None:
        """Let modules that share a parameter keep their order: each would change it for the other."""
        owners: dict[int, list[str]] = {}
        for name, module in self.graph.named_modules():
            for parameter in module.parameters(recurse=False):
                owners.setdefault(id(parameter), []).append(name)
        for names in owners.values():
            for name in names if len(names) > 1 else []:
                self.keep_owner(f"{name}.weight")

    def new(self) -> int:
        """Return a new set of channels."""
        self.parents.append(len(self.parents))
        return len(self.parents) - 1

    def root(self, ties: int) -> int:
        """Return the number that stands for a set and all that are tied to it."""
        while self.parents[ties] != ties:
            ties = self.parents[ties]
        return ties

    def tie(self, one: int, other: int) -> None:
        """Tie two sets together; what is tied to a fixed one is fixed."""
        first, second = sorted((self.root(one), self.root(other)))
        self.parents[second] = first

    def tie_name(self, names: dict[str, int], name: str, ties: int) -> None:
        """Tie channels to those that a module already has, if it was met before."""
        self.tie(names.setdefault(name, ties), ties)

    def fix(self, values: Iterable[fx.Node]) -> None:
        """Let values keep their order."""
        for value in values:
            self.tie(self.values.get(value, Carried(FIXED, 1)).ties, FIXED)

    def spaces(self) -> list[ChannelSpace]:
        """Return what has been found."""

        def members(names: dict[str, int], root: int) -> tuple[str, ...]:
            return tuple(name for name, ties in names.items() if self.root(ties) == root)

        found: list[ChannelSpace] = []
        for root in dict.fromkeys(self.root(ties) for ties in self.produced.values()):
            producers, consumers = members(self.produced, root), members(self.consumed, root)
            if root != FIXED and consumers:
                channels = weight_of(self.graph.get_submodule(producers[0])).shape[0]
                found.append(ChannelSpace(channels, producers, members(self.followed, root), consumers))
        return found


def is_inside(node: fx.Node, path: str) -> bool:
    """Whether a node belongs to the module of a path."""
    called = str(node.target) if node.op == "call_module" else ""
    return called == path or called.startswith(f"{path}.") or path in node.meta.get("nn_module_stack", {})


@torch.no_grad()
def permute_space(student: nn.Module, space: ChannelSpace, order: Sequence[int]) -> None:
    """Put the channels of a space into another order, in place; what the student computes stays the same.

    Args:
        student: the one whose space it is.
        space: of `channel_spaces`.
        order: for each new place the channel that comes there.
    """
    if sorted(order) != list(range(space.channels)):
        raise ValueError(f"expected an order of {space.channels} channels, got {len(order)} entries")

    def reorder(tensor: Tensor | None, axis: int = 0) -> None:
        if tensor is not None:
            index = torch.tensor(list(order), device=tensor.device)
            tensor.copy_(tensor.index_select(axis, index))

    for name in (*space.producers, *space.followers):
        module: Any = student.get_submodule(name)
        reorder(module.weight)
        reorder(module.bias)
        if not is_layer(module):
            reorder(module.running_mean)
            reorder(module.running_var)
    for name in space.consumers:
        consumer: Any = student.get_submodule(name)
        reorder(consumer.weight, 1)
