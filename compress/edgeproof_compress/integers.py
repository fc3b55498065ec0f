"""The form of a quantised student that is exported: integer weights, and rounding as explicit operations."""

from __future__ import annotations

import copy
from typing import Any

import torch

# Importing it defines the operations; torch has no public way to them.
import torch.ao.quantization.fx._decomposed
from timm.layers.conv2d_same import Conv2dSame, conv2d_same
from torch import Tensor, nn

from edgeproof_compress.placement import Target
from edgeproof_compress.quantized_student import QUANTIZER_PREFIX, QuantizedStudent
from edgeproof_compress.quantizers import WeightQuantizer
from edgeproof_train.outputs import ModelOutputs

SIGNED = (-128, 127)
UNSIGNED = (0, 255)


class IntegerStudent(nn.Module):
    """What an engine computes: int8 weights, activations rounded where the engine's placement has it.

    No student: it is made from one to be exported, and there is nothing of it to train or to save.

    Args:
        student: calibrated, perhaps fine-tuned; stays as it is.
        target: whose placement and whose integer types.
    """

    def __init__(self, student: QuantizedStudent, target: Target):
        super().__init__()
        self.embedding_dim, self.preprocess = student.embedding_dim, student.preprocess
        self.input_name = student.input_name
        self.graph = copy.deepcopy(student.graph).cpu().eval()
        weights = student.weight_quantizers()
        for name in student.spec.layers:
            self.graph.set_submodule(
                name, IntegerLayer(self.graph.get_submodule(name), weights[name], target)
            )
        for name, quantizer in student.quantizers().items():
            rounding = nn.Identity()
            if target in quantizer.targets:
                unsigned = quantizer.unsigned(target)
                rounding = Rounding(quantizer.scale(target), unsigned=unsigned, target=target)
            self.graph.set_submodule(QUANTIZER_PREFIX + name, rounding)
        self.graph.requires_grad_(False)

    def forward(self, image: Tensor) -> ModelOutputs:
        """Return the embedding (B, D), not normalised."""
        return ModelOutputs(self.graph(image))


class Rounding(nn.Module):
    """Quantises and dequantises a tensor with one scale.

    TensorRT reads int8 with zero point 0; ONNX Runtime's fast kernels on x86 read uint8, from 0 where nothing
    is negative, else around 128.
    """

    def __init__(self, scale: float, *, unsigned: bool, target: Target):
        super().__init__()
        if target == "onnxruntime":
            self.settings = (scale, 0 if unsigned else 128, *UNSIGNED, torch.uint8)
        else:
            self.settings = (scale, 0, *SIGNED, torch.int8)

    def forward(self, value: Tensor) -> Tensor:
        """Return the rounded value."""
        ops = torch.ops.quantized_decomposed
        rounded = ops.quantize_per_tensor(value, *self.settings)
        return ops.dequantize_per_tensor(rounded, *self.settings)


class IntegerLayer(nn.Module):
    """A layer with an int8 weight and one scale for each output channel; the bias stays float32."""

    def __init__(self, layer: Any, quantizer: WeightQuantizer, target: Target):
        super().__init__()
        weight: Tensor = layer.parametrizations.weight.original.detach()
        scale = quantizer.scale(target).cpu()
        shape = (-1, *[1] * (weight.ndim - 1))
        largest = 2 ** (quantizer.bits(target) - 1)
        rounded = torch.round(weight / scale.reshape(shape)).clamp(-largest, largest - 1)
        self.register_buffer("integers", rounded.to(torch.int8))
        self.register_buffer("scale", scale)
        self.register_buffer("zero", torch.zeros(len(scale), dtype=torch.int8))
        self.bias = layer.bias
        self.layer = without_weights(layer)
        self.same_padding = isinstance(layer, Conv2dSame)

    def forward(self, value: Tensor) -> Tensor:
        """Return what the layer gives with the dequantised weight."""
        weight = torch.ops.quantized_decomposed.dequantize_per_channel(
            self.integers, self.scale, self.zero, 0, *SIGNED, torch.int8
        )
        layer: Any = self.layer
        if isinstance(layer, nn.Linear):
            return nn.functional.linear(value, weight, self.bias)
        if self.same_padding:
            ways = (layer.stride, layer.padding, layer.dilation, layer.groups)
            return conv2d_same(value, weight, self.bias, *ways)
        return layer._conv_forward(value, weight, self.bias)


def without_weights(layer: nn.Module) -> nn.Module:
    """Return a copy of a parametrized layer that has its settings and neither weight nor bias.

    Taking the parametrization off would take it off every copy of the layer, for they share a class.
    """
    bare = copy.deepcopy(layer)
    bare.__class__ = type(layer).__bases__[0]
    del bare._modules["parametrizations"]
    bare._parameters.update(weight=None, bias=None)
    return bare
