"""Checkpoints as apex's ASP and pytorch-quantization leave them, made with the packages where these run."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from tests.compress.small_students import SIDE, images, make_student
from torch import Tensor, nn

from edgeproof_compress.masks import mask_2_4
from edgeproof_train.student import Student

State = dict[str, Tensor]


@contextmanager
def quiet() -> Iterator[None]:
    """The earlier package warns when it is imported and at each calibration."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def timm_network(student: Student) -> nn.Module:
    """Return the network of a linear student as timm names it: the backbone with its classifier."""
    import timm

    network = timm.create_model(student.card()["architecture"], num_classes=student.embedding_dim)
    network.load_state_dict(student.tensors())
    return network.eval()


def quantized_network(student: Student, calibrated: bool = True, learn_amax: bool = False) -> nn.Module:
    """Return timm's network with the layers of pytorch-quantization in place of its own.

    `quant_modules.initialize()` cannot be used: timm gives layers a device and a type that they do not take.
    """
    with quiet():
        pytest.importorskip("pytorch_quantization")
        from pytorch_quantization import nn as quant_nn
        from pytorch_quantization.tensor_quant import QuantDescriptor
    network = timm_network(student)
    read = QuantDescriptor(
        num_bits=8, calib_method="max", learn_amax=learn_amax, amax=1.5 if learn_amax else None
    )
    for name, layer in list(network.named_modules()):
        made: Any = None
        if isinstance(layer, nn.Conv2d):
            shape: Any = (layer.in_channels, layer.out_channels, layer.kernel_size)
            steps: Any = (layer.stride, layer.padding, layer.dilation, layer.groups, layer.bias is not None)
            made = quant_nn.QuantConv2d(*shape, *steps, quant_desc_input=read)
        elif isinstance(layer, nn.Linear):
            made = quant_nn.QuantLinear(layer.in_features, layer.out_features, quant_desc_input=read)
        elif isinstance(layer, nn.AdaptiveAvgPool2d):
            made = quant_nn.QuantAdaptiveAvgPool2d(layer.output_size)
        if made is not None:
            made.load_state_dict(layer.state_dict(), strict=False)
            network.set_submodule(name, made)
    if calibrated:
        calibrate(network, images(4))
    return network.eval()


def calibrate(network: nn.Module, photos: Tensor) -> None:
    """Collect every range as the package's own examples do, with max calibration."""
    from pytorch_quantization.nn import TensorQuantizer

    quantizers = [module for module in network.modules() if isinstance(module, TensorQuantizer)]
    for quantizer in quantizers:
        quantizer.disable_quant()
        quantizer.enable_calib()
    with quiet(), torch.no_grad():
        network(photos)
        for quantizer in quantizers:
            quantizer.load_calib_amax()
            quantizer.enable_quant()
            quantizer.disable_calib()


def with_asp(state: State, put_aside: bool = False) -> State:
    """Return a state dict as ASP leaves it: pruned weights, and buffers at the layers that it takes."""
    found = dict(state)
    for name, weight in state.items():
        eligible = weight.ndim in (2, 4) and weight.shape[0] % 8 == 0 and weight.shape[1] % 16 == 0
        if not (name.endswith(".weight") and eligible):
            continue
        layer, mask = name.removesuffix(".weight"), mask_2_4(weight)
        found[name] = weight * mask
        found[f"{layer}.__weight_mma_mask"] = mask
        if put_aside:
            found[f"{layer}.__weight_mma_pruned_p"] = weight * ~mask
    return found


def small_student(**settings: Any) -> Student:
    """Return the student that the checkpoints are made of."""
    return make_student("resnet18", side=SIDE, dim=16, **settings)
