"""Values that are never negative, whatever the input: after a ReLU, and what keeps that."""

from __future__ import annotations

import operator

import torch
from torch import fx, nn

from edgeproof_compress.graph import module_of

GIVE = (nn.ReLU, nn.ReLU6, nn.Sigmoid, nn.Hardsigmoid, nn.Softmax)
GIVE_FUNCTIONS = (
    torch.relu,
    torch.sigmoid,
    torch.nn.functional.relu,
    torch.nn.functional.relu6,
    torch.nn.functional.hardsigmoid,
    torch.nn.functional.softmax,
    "relu",
    "sigmoid",
)
KEEP = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.Flatten, nn.Identity, nn.Dropout, nn.Dropout2d)
KEEP_FUNCTIONS = (
    operator.add,
    operator.mul,
    operator.getitem,
    torch.add,
    torch.mul,
    torch.cat,
    torch.flatten,
    torch.nn.functional.adaptive_avg_pool2d,
    torch.nn.functional.dropout,
    torch.nn.functional.pad,
    "add",
    "mul",
    "mean",
    "flatten",
    "reshape",
    "view",
    "permute",
    "transpose",
    "contiguous",
)


def never_negative(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Whether the way to a value rules out that any of its numbers is negative."""
    module = module_of(graph, node)
    gives = isinstance(module, GIVE) if module is not None else node.target in GIVE_FUNCTIONS
    if gives:
        return True
    keeps = isinstance(module, KEEP) if module is not None else node.target in KEEP_FUNCTIONS
    given = (*node.args, *node.kwargs.values())
    constants = [value for value in given if isinstance(value, int | float)]
    return (
        keeps
        and bool(node.all_input_nodes)
        and all(value >= 0 for value in constants)
        and all(never_negative(graph, before) for before in node.all_input_nodes)
    )
