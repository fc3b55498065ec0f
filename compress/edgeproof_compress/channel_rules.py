"""What is known of operations: which keep the order of channels, and the shapes of what they give."""

from __future__ import annotations

import operator
from typing import Any

import torch
from timm.layers import activations
from timm.layers.norm_act import BatchNormAct2d
from timm.layers.pool2d_same import AvgPool2dSame, MaxPool2dSame
from torch import Tensor, fx, nn
from torch.nn import functional as F

ELEMENTWISE_MODULES = (
    *(
        nn.Identity,
        nn.Dropout,
        nn.Dropout2d,
        nn.ReLU,
        nn.ReLU6,
        nn.LeakyReLU,
        nn.ELU,
        nn.GELU,
        nn.SiLU,
        nn.Mish,
    ),
    *(nn.Hardswish, nn.Hardsigmoid, nn.Hardtanh, nn.Sigmoid, nn.Tanh),
    *(activations.Swish, activations.Mish, activations.Sigmoid, activations.Tanh, activations.HardSwish),
    *(activations.HardSigmoid, activations.HardMish, activations.GELU, activations.GELUTanh),
    activations.QuickGELU,
)
POOLS = (
    *(nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, AvgPool2dSame, MaxPool2dSame),
)
ELEMENTWISE: tuple[Any, ...] = (
    *(F.relu, F.relu6, F.leaky_relu, F.elu, F.gelu, F.silu, F.mish, F.hardswish, F.hardsigmoid, F.dropout),
    *(torch.relu, torch.sigmoid, torch.tanh, F.sigmoid, F.tanh, operator.neg),
    *("relu", "sigmoid", "tanh", "clamp", "contiguous", "detach", "float"),
    *(F.max_pool2d, F.avg_pool2d, F.adaptive_avg_pool2d, F.adaptive_max_pool2d),
)
OF_TWO: tuple[Any, ...] = (
    *(operator.add, operator.sub, operator.mul, operator.truediv, torch.add, torch.mul, torch.sub),
    *("add", "sub", "mul", "div"),
)
MEANS: tuple[Any, ...] = (torch.mean, "mean", torch.sum, "sum", torch.amax, "amax")
RESHAPES: tuple[Any, ...] = (
    *(torch.flatten, torch.reshape, torch.squeeze, torch.unsqueeze),
    *("flatten", "reshape", "view", "squeeze", "unsqueeze"),
)
SIZES: tuple[Any, ...] = (getattr, "size", "dim")


def is_elementwise_norm(module: nn.Module) -> bool:
    """Whether a batch norm, with the activation that timm's brings along, treats all channels alike."""
    if not isinstance(module, BatchNormAct2d):
        return type(module) in (nn.BatchNorm1d, nn.BatchNorm2d)
    return isinstance(module.act, ELEMENTWISE_MODULES) and isinstance(module.drop, nn.Identity)


class Shapes(fx.Interpreter):
    """Runs a graph and keeps the shape of every value that is a tensor."""

    def __init__(self, graph: fx.GraphModule):
        super().__init__(graph)
        self.found: dict[fx.Node, tuple[int, ...]] = {}

    def run_node(self, n: fx.Node) -> Any:
        """Run a node."""
        result = super().run_node(n)
        if isinstance(result, Tensor):
            self.found[n] = tuple(result.shape)
        return result


def shapes_of(graph: fx.GraphModule, side: int) -> dict[fx.Node, tuple[int, ...]]:
    """Return the shape of every value that is a tensor, for two images (2, 3, side, side)."""
    run = Shapes(graph)
    with torch.no_grad():
        run.run(torch.zeros(2, 3, side, side))
    return run.found
