from __future__ import annotations

import sys
from typing import get_args

import pytest
import torch
from torch import Tensor, nn

from edgeproof_compress.placement import TARGETS, Target
from edgeproof_compress.quantizers import (
    ActivationQuantizer,
    Backend,
    Calibration,
    WeightQuantizer,
    make_quantizer,
)
from edgeproof_configs.errors import MissingPackageError

BACKENDS: tuple[Backend, ...] = get_args(Backend)
METHODS: tuple[Calibration, ...] = get_args(Calibration)
every_backend = pytest.mark.parametrize("backend", BACKENDS)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def activation(backend: Backend, amax: float, *, never_negative: bool = False) -> ActivationQuantizer:
    quantizer = ActivationQuantizer(backend, set(TARGETS), never_negative)
    quantizer.amax = amax
    return quantizer


def seen(backend: Backend, *batches: Tensor) -> ActivationQuantizer:
    """Return a quantizer through which these went in calibration."""
    quantizer = ActivationQuantizer(backend, {"onnxruntime"}, False)
    quantizer.collect()
    for batch in batches:
        assert torch.equal(quantizer(batch), batch), "nothing is rounded yet"
    return quantizer


@every_backend
@pytest.mark.parametrize("target", TARGETS)
def test_activation_quantizer__rounds_as_torch_does(backend: Backend, target: Target) -> None:
    quantizer = activation(backend, 1.7)
    quantizer.use(target)
    value = noise(4, 8, 16, 16)
    expected = torch.fake_quantize_per_tensor_affine(value, 1.7 / 127, 0, -128, 127)
    torch.testing.assert_close(quantizer(value), expected, rtol=0, atol=1e-6)
    assert quantizer.scale(target) == pytest.approx(1.7 / 127)


@every_backend
def test_activation_quantizer__is_unsigned_for_onnxruntime_alone(
    backend: Backend,
) -> None:
    value = noise(4, 8, 16, 16).relu()
    quantizer = activation(backend, 1.7, never_negative=True)
    quantizer.use("onnxruntime")
    expected = torch.fake_quantize_per_tensor_affine(value, 1.7 / 255, 0, 0, 255)
    torch.testing.assert_close(quantizer(value), expected, rtol=0, atol=1e-6)
    assert quantizer.scale("onnxruntime") == pytest.approx(1.7 / 255)
    quantizer.use("tensorrt")
    expected = torch.fake_quantize_per_tensor_affine(value, 1.7 / 127, 0, -128, 127)
    torch.testing.assert_close(quantizer(value), expected, rtol=0, atol=1e-6)
    assert not quantizer.unsigned("tensorrt")
    assert not activation(backend, 1.7).unsigned("onnxruntime")


@every_backend
def test_activation_quantizer__rounds_only_for_its_engines(backend: Backend) -> None:
    quantizer = ActivationQuantizer(backend, {"tensorrt"}, False)
    value = noise(2, 3)
    quantizer.use("tensorrt")
    assert quantizer(value) is value, "without a range nothing is rounded"
    quantizer.amax = 1.0
    quantizer.use("tensorrt")
    assert not torch.equal(quantizer(value), value)
    for target in ("onnxruntime", None):
        quantizer.use(target)
        assert quantizer(value) is value


@every_backend
def test_activation_quantizer__lets_gradients_through(backend: Backend) -> None:
    quantizer = activation(backend, 1.0)
    quantizer.use("onnxruntime")
    value = noise(100).requires_grad_()
    quantizer(value).sum().backward()
    assert value.grad is not None
    inside = value.detach().abs() <= 1
    assert value.grad[inside].eq(1).all()
    # What is cut off: modelopt lets its gradient through as well, the earlier package does not.
    assert value.grad[~inside].eq(1 if backend == "modelopt" else 0).all()


@every_backend
@pytest.mark.parametrize("method", METHODS)
def test_finish__takes_in_batches_that_grow_and_ones_of_zeros(backend: Backend, method: Calibration) -> None:
    batches = [torch.zeros(2000), noise(2000), 1.5 * noise(2000, seed=1), noise(2000, seed=2)]
    largest = float(torch.cat(batches).abs().max())
    found = seen(backend, *batches).finish(method, 99.0)
    if method == "max":
        assert found == pytest.approx(largest)
    else:
        assert 0.2 * largest < found <= largest * 1.002
    assert method != "percentile" or found < 0.9 * largest


@every_backend
def test_finish__of_zeros_is_zero_and_of_what_is_no_number_is_nan(backend: Backend) -> None:
    for method in METHODS:
        assert seen(backend, torch.zeros(4), torch.zeros(4)).finish(method, None) == 0
    for bad in (torch.nan, torch.inf):
        for method in METHODS:
            quantizer = ActivationQuantizer(backend, {"onnxruntime"}, False)
            quantizer.collect()
            for value in (torch.ones(3), torch.tensor([1.0, bad]), torch.ones(3)):
                quantizer(value)
            assert quantizer.finish(method, None) != quantizer.finish(method, None), f"{bad}, {method}"


@every_backend
def test_collect__forgets_what_was_seen_before(backend: Backend) -> None:
    quantizer = seen(backend, 100 * noise(1000))
    quantizer.finish("mse", None)
    quantizer.collect()
    quantizer(noise(1000))
    assert quantizer.finish("max", None) == pytest.approx(float(noise(1000).abs().max()))
    quantizer.collect()
    quantizer(noise(1000))
    assert quantizer.finish("entropy", None) < 5


@every_backend
@pytest.mark.parametrize("layer", [nn.Conv2d(4, 6, 3), nn.Conv2d(6, 6, 3, groups=6), nn.Linear(5, 6)])
def test_weight_quantizer__rounds_each_channel_as_torch_does(backend: Backend, layer: nn.Module) -> None:
    weight = noise(*layer.get_parameter("weight").shape) * torch.arange(6.0).reshape(
        -1, *[1] * (layer.get_parameter("weight").ndim - 1)
    )
    quantizer = WeightQuantizer(backend, weight)
    assert quantizer(weight) is weight
    quantizer.active = True
    assert quantizer.ranges[0] == 1, "of a channel of zeros"
    expected = torch.fake_quantize_per_channel_affine(
        weight, quantizer.ranges / 127, torch.zeros(6, dtype=torch.int32), 0, -128, 127
    )
    rounded = quantizer(weight)
    torch.testing.assert_close(rounded, expected, rtol=0, atol=1e-6)
    assert not rounded[0].any()
    torch.testing.assert_close(rounded.abs().flatten(1).amax(1)[1:], quantizer.ranges[1:])


@every_backend
def test_weight_quantizer__takes_ranges_anew(backend: Backend) -> None:
    weight = noise(4, 3, 3, 3)
    quantizer = WeightQuantizer(backend, weight)
    quantizer.active = True
    quantizer.set_ranges(torch.full((4,), 0.5))
    assert quantizer(weight).abs().max() == pytest.approx(0.5 * 128 / 127)
    assert torch.equal(quantizer.ranges, torch.full((4,), 0.5))


def test_make_quantizer__without_the_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("pytorch_quantization", "pytorch_quantization.calib", "pytorch_quantization.nn"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingPackageError, match="pytorch_quantization") as caught:
        make_quantizer("pytorch_quantization", per_channel=False)
    assert "edgeproof[compress-legacy]" in str(caught.value)
