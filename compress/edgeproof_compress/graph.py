"""A student as a graph of operations, which sparsity and quantisation look at and change."""

from __future__ import annotations

import copy
import operator
from collections.abc import Iterator

import torch
from timm.models import get_notrace_functions, get_notrace_modules
from torch import Tensor, fx, nn
from torch.fx.proxy import TraceError

from edgeproof_configs.errors import UsageError
from edgeproof_train.student import Student

INPLACE_ADDS = (operator.iadd, "add_")
DOES_NOTHING = (nn.Identity, nn.Dropout, nn.Dropout2d)


class _Embedding(nn.Module):
    """What is traced: an image in, an embedding out."""

    def __init__(self, student: Student):
        super().__init__()
        self.student = student

    def forward(self, image: Tensor) -> Tensor:
        return self.student(image).embedding


class _Tracer(fx.Tracer):
    """Keeps whole what timm says must not be looked into."""

    def __init__(self) -> None:
        super().__init__(autowrap_functions=tuple(get_notrace_functions()))
        self.leaves = tuple(get_notrace_modules())

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, self.leaves) or super().is_leaf_module(m, module_qualified_name)


def trace(student: Student) -> fx.GraphModule:
    """Return a student as a graph: images (B, 3, H, W) in, embeddings (B, D) out, as in evaluation.

    The graph has copies of the student's modules, by the same paths. Changes in place are undone, so that a
    value means the same wherever it is used.

    Raises:
        UsageError: the way through the network depends on values, which a graph cannot show.
    """
    network = _Embedding(copy.deepcopy(student)).eval()
    try:
        graph = _Tracer().trace(network)
    except (TraceError, TypeError, AttributeError) as error:
        raise UsageError(
            f"the student cannot be shown as a graph: {str(error).splitlines()[0][:200]}",
            where="compress",
            fix="choose another student, or remove compress",
        ) from error
    for node in graph.nodes:
        if node.op in ("call_module", "get_attr"):
            node.target = node.target.removeprefix("student.")
            # Constants that tracing found lie on what was traced.
            if hasattr(network, node.target):
                setattr(network.student, node.target, getattr(network, node.target))
        stack = node.meta.get("nn_module_stack", {})
        node.meta["nn_module_stack"] = {
            path.removeprefix("student."): kind for path, kind in stack.items() if path != "student"
        }
        if node.target in INPLACE_ADDS:
            node.op, node.target = "call_function", torch.add
    for module in network.modules():
        if hasattr(module, "inplace"):
            setattr(module, "inplace", False)
    return fx.GraphModule(network.student, graph)


def module_of(graph: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    """Return the module that a node calls, if it calls one."""
    return graph.get_submodule(str(node.target)) if node.op == "call_module" else None


def calls(graph: fx.GraphModule) -> Iterator[tuple[fx.Node, nn.Module]]:
    """Yield every node that calls a module, with the module, in order of execution."""
    for node in graph.graph.nodes:
        module = module_of(graph, node)
        if module is not None:
            yield node, module


def does_nothing(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Whether a node gives what it is given, in evaluation."""
    module = module_of(graph, node)
    if module is not None:
        return isinstance(module, DOES_NOTHING)
    return node.target in (torch.nn.functional.dropout, "contiguous")


def source_of(graph: fx.GraphModule, node: fx.Node) -> fx.Node:
    """Return where the value of a node comes from, across nodes that do nothing."""
    while does_nothing(graph, node):
        node = node.all_input_nodes[0]
    return node


def users_of(graph: fx.GraphModule, node: fx.Node) -> list[fx.Node]:
    """Return the nodes that use a node's value, across nodes that do nothing."""
    found: list[fx.Node] = []
    for user in node.users:
        found.extend(users_of(graph, user) if does_nothing(graph, user) else [user])
    return found
