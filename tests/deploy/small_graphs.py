"""Small quantised networks: written node by node, or exported from PyTorch as a student is."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
import torch.ao.quantization.fx._decomposed
from onnx import helper, numpy_helper
from torch import nn

SIDE = 8


class Builder:
    """Writes an ONNX graph node by node; every method returns the name of what it made."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.stored: list[onnx.TensorProto] = []
        self.rng = np.random.default_rng(0)

    def store(self, values: Any, name: str = "") -> str:
        name = name or f"c{len(self.stored)}"
        self.stored.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def add(self, kind: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        out = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [out], name or f"n{len(self.nodes)}", **attributes))
        return out

    def qdq(self, x: str, scale: float = 0.02, zero: int = 0, dtype: Any = np.uint8, name: str = "") -> str:
        s, z = self.store(np.float32(scale)), self.store(dtype(zero))
        return self.add("DequantizeLinear", self.add("QuantizeLinear", x, s, z, name=name), s, z)

    def signed(self, x: str, scale: float = 0.02) -> str:
        """Values below zero, in eight unsigned bits."""
        return self.qdq(x, scale, 128)

    def weight(self, *shape: int, per_channel: bool = True, axis: int = 0, scale: float = 0.005) -> str:
        values = self.rng.integers(-127, 128, shape).astype(np.int8)
        scales = np.full(shape[axis], scale, np.float32) if per_channel else np.float32(scale)
        zeros = np.zeros(np.shape(scales), np.int8)
        return self.add(
            "DequantizeLinear", self.store(values), self.store(scales), self.store(zeros), axis=axis
        )

    def float_weight(self, *shape: int) -> str:
        return self.store(self.rng.standard_normal(shape).astype(np.float32) * 0.2)

    def conv(self, x: str, channels: tuple[int, int], name: str = "", **settings: Any) -> str:
        """A 3 x 3 convolution that keeps height and width; settings: `weight`, `group`, `bias`, `pads`."""
        made, given = channels
        group = settings.get("group", 1)
        weight = settings.get("weight") or self.weight(made, given // group, 3, 3)
        bias = settings.get("bias") or self.store(np.zeros(made, np.float32))
        pads = settings.get("pads", [1, 1, 1, 1])
        return self.add("Conv", x, weight, bias, name=name, kernel_shape=[3, 3], pads=pads, group=group)

    def model(self, out: str, shape: tuple[int, ...], image: tuple[int, ...] = (3, SIDE, SIDE)) -> Any:
        """Close the graph at `out`, of `shape` without the batch."""
        for node in self.nodes:
            node.output[:] = ["embedding" if name == out else name for name in node.output]
            node.input[:] = ["embedding" if name == out else name for name in node.input]
        kind = onnx.TensorProto.FLOAT
        graph = helper.make_graph(
            self.nodes,
            "net",
            [helper.make_tensor_value_info("image", kind, ["batch", *image])],
            [helper.make_tensor_value_info("embedding", kind, ["batch", *shape])],
            self.stored,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
        onnx.checker.check_model(model, full_check=True)
        return model


def run(model: onnx.ModelProto, batch: int = 2) -> np.ndarray:
    """Return what ONNX Runtime gives for fixed noise, without any optimisation of its own."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    shape = session.get_inputs()[0].shape[1:]
    images = np.random.default_rng(5).standard_normal((batch, *shape)).astype(np.float32)
    return np.asarray(session.run(None, {"image": images})[0])


def counts(model: onnx.ModelProto) -> dict[str, int]:
    kinds = [node.op_type for node in model.graph.node]
    return {kind: kinds.count(kind) for kind in sorted(set(kinds))}


class QuantisedAct(nn.Module):
    """Rounds to 8 bits and back, as the exporter knows it."""

    def __init__(self, scale: float, zero: int = 0):
        super().__init__()
        self.code = (scale, zero, 0, 255, torch.uint8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        ops: Any = torch.ops.quantized_decomposed
        return ops.dequantize_per_tensor(ops.quantize_per_tensor(x, *self.code), *self.code)


class QuantisedWeights(nn.Module):
    """A convolution or linear layer whose weights are stored as integers."""

    def __init__(self, layer: nn.Conv2d | nn.Linear):
        super().__init__()
        ops: Any = torch.ops.quantized_decomposed
        weight = layer.weight.detach()
        self.register_buffer("scales", weight.flatten(1).abs().amax(1) / 127)
        self.register_buffer("zeros", torch.zeros(len(weight), dtype=torch.int32))
        self.code = (0, -127, 127, torch.int8)
        integers = ops.quantize_per_channel(weight, self.scales, self.zeros, *self.code)
        self.register_buffer("integers", integers)
        self.layer, self.bias = layer, layer.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        ops: Any = torch.ops.quantized_decomposed
        weight = ops.dequantize_per_channel(self.integers, self.scales, self.zeros, *self.code)
        if isinstance(self.layer, nn.Linear):
            return nn.functional.linear(x, weight, self.bias)
        padding: Any = self.layer.padding
        return nn.functional.conv2d(x, weight, self.bias, self.layer.stride, padding)


class Toy(nn.Module):
    """Two convolutions, a shortcut and a linear layer, on a pooled vector or on tokens."""

    def __init__(self, tokens: bool = False):
        super().__init__()
        torch.manual_seed(0)
        self.image = QuantisedAct(0.03, 128)
        self.conv1 = QuantisedWeights(nn.Conv2d(3, 8, 3))
        self.act1 = QuantisedAct(0.01)
        self.conv2 = QuantisedWeights(nn.Conv2d(8, 8, 3, padding=1))
        self.branch = QuantisedAct(0.01, 128)
        self.act2 = QuantisedAct(0.01)
        self.pooled = QuantisedAct(0.005)
        self.head = QuantisedWeights(nn.Linear(8, 16))
        self.tokens = tokens

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = nn.functional.pad(self.image(x), (0, 2, 1, 1))
        a = self.act1(nn.functional.relu6(self.conv1(x)))
        b = self.act2(torch.relu(self.branch(self.conv2(a)) + a))
        if self.tokens:
            return self.head(b.flatten(2).transpose(1, 2)).mean(1)
        return self.head(self.pooled(b.mean((2, 3))))


def exported(tokens: bool = False) -> onnx.ModelProto:
    """Return the toy as the exporter writes it."""
    model = onnx.ModelProto()
    model.CopyFrom(_exported(tokens))
    return model


@cache
def _exported(tokens: bool) -> onnx.ModelProto:
    program = torch.onnx.export(
        Toy(tokens).eval(),
        (torch.zeros(2, 3, SIDE, SIDE),),
        dynamo=True,
        opset_version=18,
        input_names=["image"],
        output_names=["embedding"],
        dynamic_shapes={"x": {0: torch.export.Dim("batch", min=1)}},
        external_data=False,
        verbose=False,
    )
    assert program is not None
    return program.model_proto
