"""Simulated rounding to INT8: one interface over the packages that collect ranges and round."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from edgeproof_compress.placement import Target
from edgeproof_compress.ranges import METHODS, percentile_range
from edgeproof_configs.errors import MissingPackageError

Backend = Literal["modelopt", "pytorch_quantization"]
Calibration = Literal["max", "entropy", "percentile", "mse"]
SIGNED_LEVELS, UNSIGNED_LEVELS = 127, 255
REDUCED_BITS = 7
"""Of weights for processors without VNNI: they add two products of an unsigned and a signed byte in 16 bits,
where 255 * 127 twice is too much and 255 * 64 twice is not."""
DEFAULT_PERCENTILE = 99.99


def make_quantizer(backend: Backend, *, per_channel: bool) -> Any:
    """Return the backend's quantizer: per tensor with a histogram calibrator, or per output channel.

    Raises:
        MissingPackageError: the backend's package is not installed.
    """
    axis = 0 if per_channel else None
    try:
        with quiet():
            if backend == "modelopt":
                return of_modelopt(axis)
            return of_pytorch_quantization(axis)
    except ModuleNotFoundError as error:
        extra = "compress" if backend == "modelopt" else "compress-legacy"
        raise MissingPackageError(
            f"quantization.backend: {backend} needs the package '{error.name}'",
            fix=f"pip install 'edgeproof[{extra}]'",
        ) from error


@contextmanager
def quiet() -> Iterator[None]:
    """Keep silent what the backends say on import: of TorchScript, untested transformers, a missing CUDA."""
    log = logging.getLogger("torch.utils.cpp_extension")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)


def of_modelopt(axis: int | None) -> Any:
    """Return a quantizer of nvidia-modelopt."""
    from modelopt.torch.quantization.calib import HistogramCalibrator
    from modelopt.torch.quantization.config import QuantizerAttributeConfig
    from modelopt.torch.quantization.nn import TensorQuantizer

    quantizer: Any = TensorQuantizer(QuantizerAttributeConfig(num_bits=8, axis=axis))
    if axis is None:
        quantizer._calibrator = HistogramCalibrator(8, None, False)
    return quantizer


def of_pytorch_quantization(axis: int | None) -> Any:
    """Return a quantizer of pytorch-quantization, the earlier package."""
    from pytorch_quantization.calib import HistogramCalibrator
    from pytorch_quantization.nn import TensorQuantizer
    from pytorch_quantization.tensor_quant import QuantDescriptor

    quantizer: Any = TensorQuantizer(QuantDescriptor(num_bits=8, axis=axis))
    if axis is None:
        # Only with torch's histogram do the bins begin at 0, whatever the first batch holds.
        quantizer._calibrator = HistogramCalibrator(8, None, False, torch_hist=True)
    return quantizer


class ActivationQuantizer(nn.Module):
    """Rounds a value to 8 bits for those engines that quantise it, with one range for the tensor.

    ONNX Runtime on x86 wants unsigned activations: of a value that is never negative it uses all 255 steps of
    [0, amax]. Everything else is symmetric, `scale = amax / 127`.

    Attributes:
        targets: the engines that quantise this value.
        never_negative: whether its place in the network rules negative numbers out.
        largest: of the absolute values seen in calibration.
    """

    def __init__(self, backend: Backend, targets: set[Target], never_negative: bool):
        super().__init__()
        self.inner = make_quantizer(backend, per_channel=False)
        self.targets = frozenset(targets)
        self.never_negative = never_negative
        self.active = False
        self.collecting = False
        self.largest = 0.0

    def forward(self, value: Tensor) -> Tensor:
        """Return the value, rounded where this quantizer is active."""
        if self.collecting:
            return self.note(value)
        return self.inner(value) if self.active else value

    def note(self, value: Tensor) -> Tensor:
        """Take in a value, and return it as it is.

        The histogram cannot start with nothing but zeros, and cannot hold what is no number: `largest` is NaN
        from then on.
        """
        seen = float(value.detach().abs().max())
        self.largest = max(self.largest, seen) if math.isfinite(seen) else math.nan
        return self.inner(value) if seen > 0 and math.isfinite(seen) else value

    def use(self, target: Target | None) -> None:
        """Round as an engine does; None: not at all."""
        self.active = target in self.targets and self.amax is not None
        self.inner._unsigned = self.unsigned(target)

    def unsigned(self, target: Target | None) -> bool:
        """Whether an engine holds this value in uint8 from 0 up."""
        return self.never_negative and target == "onnxruntime"

    def scale(self, target: Target) -> float:
        """Return the step between two levels for an engine."""
        assert self.amax is not None
        return self.amax / (UNSIGNED_LEVELS if self.unsigned(target) else SIGNED_LEVELS)

    @property
    def amax(self) -> float | None:
        """The range: what is beyond is cut off; None before calibration."""
        found = self.inner.amax
        return None if found is None else float(found)

    @amax.setter
    def amax(self, value: float) -> None:
        set_amax(self.inner, torch.tensor(value))

    def collect(self) -> None:
        """Begin to note the values that come through."""
        self.inner._unsigned = False
        self.inner.disable_quant()
        self.inner.enable_calib()
        self.inner._calibrator.reset()
        self.largest = 0.0
        self.collecting = True

    def finish(self, method: Calibration, percentile: float | None) -> float:
        """Return the range that follows from the values that came through.

        It is 0 if all were zero, and NaN if one was no number.
        """
        self.collecting = False
        self.inner.disable_calib()
        self.inner.enable_quant()
        if method == "max" or not self.largest > 0:
            return self.largest
        calibrator = self.inner._calibrator
        counts = calibrator._calib_hist.double().cpu().numpy()
        # When bins are added, the packages' own edges may be one more than the counts need.
        edges = np.linspace(0, float(calibrator._calib_bin_edges[-1]), len(counts) + 1)
        if method == "percentile":
            return percentile_range(counts, edges, percentile or DEFAULT_PERCENTILE)
        return METHODS[method](counts, edges)


class WeightQuantizer(nn.Module):
    """Rounds a weight (O, ...) to 8 bits, symmetric, with one range for each output channel.

    A channel whose weights are all zero has the range 1: they stay zero.

    Args:
        backend: whose rounding it is.
        weight: (O, ...), for the ranges.
        reduce: keep to 7 bits for ONNX Runtime.
    """

    def __init__(self, backend: Backend, weight: Tensor, *, reduce: bool = False):
        super().__init__()
        self.reduce = reduce
        self.inner = make_quantizer(backend, per_channel=True)
        self.active = False
        self.shape = (-1, *[1] * (weight.ndim - 1))
        largest = weight.detach().abs().flatten(1).amax(dim=1)
        self.set_ranges(torch.where(largest > 0, largest, 1.0))

    def forward(self, weight: Tensor) -> Tensor:
        """Return the weight, rounded where this quantizer is active."""
        return self.inner(weight) if self.active else weight

    def use(self, target: Target | None) -> None:
        """Round as an engine does; None: not at all."""
        self.active = target is not None
        self.inner._num_bits = self.bits(target)

    def bits(self, target: Target | None) -> int:
        """Return how many bits an engine's weights have."""
        return REDUCED_BITS if self.reduce and target == "onnxruntime" else 8

    def scale(self, target: Target) -> Tensor:
        """Return the step between two levels of each channel for an engine, (O,)."""
        return self.ranges / (2 ** (self.bits(target) - 1) - 1)

    @property
    def ranges(self) -> Tensor:
        """(O,), float32."""
        return self.inner.amax.detach().flatten()

    def set_ranges(self, ranges: Tensor) -> None:
        """Take ranges (O,)."""
        set_amax(self.inner, ranges.float().reshape(self.shape))


class RoundedWeight(nn.Module):
    """The parametrization of a layer's weight: what the layer computes with."""

    def __init__(self, quantizer: WeightQuantizer):
        super().__init__()
        self.quantizer = quantizer

    def forward(self, weight: Tensor) -> Tensor:
        """Return the rounded weight."""
        return self.quantizer(weight)


def set_amax(quantizer: Any, amax: Tensor) -> None:
    """Set a backend's range, whether it has one or not."""
    if hasattr(quantizer, "_amax"):
        delattr(quantizer, "_amax")
    quantizer.register_buffer("_amax", amax)
