"""Folding batch norms into the convolutions and linear layers before them."""

from __future__ import annotations

import torch
from timm.layers.conv2d_same import Conv2dSame
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

from edgeproof_compress.graph import calls, module_of, source_of, users_of

PLAIN_FORWARDS = (nn.Conv2d.forward, nn.Linear.forward, Conv2dSame.forward)
"""Of layers that use their weight as it is; a weight-standardised one does not."""


def is_plain_layer(module: nn.Module | None) -> bool:
    """Whether a module is a convolution or linear layer that uses its weight as it is."""
    return isinstance(module, nn.Conv2d | nn.Linear) and type(module).forward in PLAIN_FORWARDS


def fold_batch_norms(graph: fx.GraphModule) -> list[str]:
    """Fold every batch norm that directly follows a layer of its own into it; the outputs stay the same.

    `w' = w g / sqrt(var + eps)`, `b' = (b - mean) g / sqrt(var + eps) + beta` for each output channel, with
    the statistics of evaluation. An activation that is part of the norm stays.

    Args:
        graph: of a student; changed.

    Returns:
        The names of the batch norms that could not be folded: something else comes before them, or they take
        their statistics from the batch.
    """
    left: list[str] = []
    called = [str(node.target) for node, _ in calls(graph)]
    for node, norm in list(calls(graph)):
        if not isinstance(norm, _BatchNorm):
            continue
        before = source_of(graph, node.all_input_nodes[0])
        layer = module_of(graph, before)
        alone = called.count(str(before.target)) == called.count(str(node.target)) == 1
        has_statistics = norm.running_mean is not None
        only_user = len(users_of(graph, before)) == 1
        if not (alone and has_statistics and is_plain_layer(layer) and only_user):
            left.append(str(node.target))
            continue
        assert isinstance(layer, nn.Conv2d | nn.Linear)
        fold_into(layer, norm)
        replace_by_activation(graph, node, norm)
    graph.delete_all_unused_submodules()
    graph.recompile()
    return list(dict.fromkeys(left))


def fold_into(layer: nn.Conv2d | nn.Linear, norm: _BatchNorm) -> Tensor:
    """Fold a batch norm into the layer before it.

    Returns:
        (O,), what each output channel was multiplied with: ranges of weights that were found before have to
        be multiplied with its absolute value.
    """
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = torch.rsqrt(norm.running_var.double() + norm.eps)
    scale = scale if norm.weight is None else scale * norm.weight.detach().double()
    shift = torch.zeros_like(scale) if norm.bias is None else norm.bias.detach().double()
    bias = torch.zeros_like(scale) if layer.bias is None else layer.bias.detach().double()
    weight = layer.weight.detach().double() * scale.reshape(-1, *[1] * (layer.weight.ndim - 1))
    bias = (bias - norm.running_mean.double()) * scale + shift
    trainable = layer.weight.requires_grad
    layer.weight = nn.Parameter(weight.to(layer.weight.dtype), trainable)
    layer.bias = nn.Parameter(bias.to(layer.weight.dtype), trainable)
    return scale.to(layer.weight.dtype)


def replace_by_activation(graph: fx.GraphModule, node: fx.Node, norm: _BatchNorm) -> None:
    """Take a batch norm out of the graph; timm's may hold an activation, which stays in its place."""
    value = node.all_input_nodes[0]
    kept = {
        part: module
        for part in ("drop", "act")
        if isinstance(module := getattr(norm, part, None), nn.Module) and not isinstance(module, nn.Identity)
    }
    if kept:
        # In the norm itself they would keep its dead parameters in the graph.
        graph.set_submodule(str(node.target), holding(kept))
    for part in kept:
        with graph.graph.inserting_before(node):
            stack = node.meta.get("nn_module_stack", {})
            value = graph.graph.call_module(f"{node.target}.{part}", (value,))
            value.meta["nn_module_stack"] = stack
    node.replace_all_uses_with(value)
    graph.graph.erase_node(node)


def holding(children: dict[str, nn.Module]) -> nn.Module:
    """Return a module that only holds others."""
    holder = nn.Module()
    for name, child in children.items():
        holder.add_module(name, child)
    return holder
