from __future__ import annotations

import numpy as np
import onnx
import pytest
from tests.deploy.small_graphs import Builder, counts, exported, run

from edgeproof_deploy.fused_ops import fused_operators
from edgeproof_deploy.qdq_passes import drop_clips, fit_to_engine, integer_biases


def clipped(high: float, scale: float, zero: int = 0) -> onnx.ModelProto:
    """Clip(image, 0, high) before a quantiser."""
    b = Builder()
    x = b.add("Clip", "image", b.store(np.float32(0)), b.store(np.float32(high)))
    return b.model(b.qdq(x, scale, zero), (3, 8, 8))


@pytest.mark.parametrize("scale", [6 / 255, 1 / 255, np.nextafter(np.float32(6 / 255), np.float32(1))])
def test_drop_clips__where_the_range_ends_before(scale: float) -> None:
    model = clipped(6, scale)
    before = run(model)
    assert drop_clips(model) == 1
    onnx.checker.check_model(model, full_check=True)
    assert "Clip" not in counts(model)
    np.testing.assert_array_equal(run(model), before)


@pytest.mark.parametrize(("high", "scale", "zero"), [(1, 6 / 255, 0), (6, 6 / 255, 128)])
def test_drop_clips__stays_where_it_cuts_more(high: float, scale: float, zero: int) -> None:
    model = clipped(high, scale, zero)
    assert drop_clips(model) == 0
    assert "Clip" in counts(model)


def test_drop_clips__relu_before_two_quantisers() -> None:
    b = Builder()
    x = b.add("Relu", "image")
    model = b.model(b.add("Add", b.qdq(x, 0.01), b.qdq(x, 0.02)), (3, 8, 8))
    before = run(model)
    assert drop_clips(model) == 1
    np.testing.assert_array_equal(run(model), before)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_drop_clips__relu_stays_where_not_only_a_quantiser_of_zero_point_0_sees_it(dtype: type) -> None:
    b = Builder()
    x = b.add("Relu", "image")
    y = b.qdq(x, 0.02, 0, dtype)
    model = b.model(b.add("Add", x, y) if dtype is np.uint8 else y, (3, 8, 8))
    assert drop_clips(model) == 0


@pytest.mark.parametrize("per_channel", [True, False])
def test_integer_biases__round_to_a_step(per_channel: bool) -> None:
    b = Builder()
    bias = np.random.default_rng(1).standard_normal(16).astype(np.float32)
    flat = b.add("Reshape", b.qdq("image", 0.02), b.store(np.array([-1, 192])))
    weight = b.weight(16, 192, per_channel=per_channel, scale=0.005)
    model = b.model(b.add("Gemm", flat, weight, b.store(bias, "bias"), transB=1), (16,))
    before = run(model)
    assert integer_biases(model) == 1
    onnx.checker.check_model(model, full_check=True)
    assert "bias" not in [tensor.name for tensor in model.graph.initializer]
    difference = np.abs(run(model) - before)
    assert 0 < difference.max() < 0.02 * 0.005 / 2 + 1e-5
    assert fused_operators(model.SerializeToString(), 1)["QGemm"] == 1
    assert integer_biases(model) == 0


def test_integer_biases__stay_where_they_do_not_fit() -> None:
    b = Builder()
    flat = b.add("Reshape", b.qdq("image", 1e-6), b.store(np.array([-1, 192])))
    large = b.store(np.full(4, 1e6, np.float32))
    x = b.add("Gemm", flat, b.weight(4, 192), large, transB=1)
    y = b.add("Gemm", x, b.float_weight(4, 4), b.store(np.ones(4, np.float32)), transB=1)
    z = b.add("Gemm", b.qdq(y), b.weight(4, 4, axis=1), b.store(np.ones(4, np.float32)))
    assert integer_biases(b.model(z, (4,))) == 0


def test_fit_to_engine__onnxruntime() -> None:
    model = exported()
    before = run(model)
    made = fit_to_engine(model, "onnxruntime")
    assert made == {"fold_pads": 0, "drop_clips": 2, "integer_biases": 1, "transpose_weights": 0}
    onnx.checker.check_model(model, full_check=True)
    assert set(counts(model)) & {"Pad", "Clip", "Relu"} == set()
    np.testing.assert_allclose(run(model), before, atol=1e-5)


def test_fit_to_engine__tensorrt_keeps_what_it_fuses_itself() -> None:
    model = exported()
    before = run(model)
    assert fit_to_engine(model, "tensorrt") == {"fold_pads": 0, "transpose_weights": 0}
    assert {"Gemm", "Relu", "Clip"} <= set(counts(model))
    np.testing.assert_allclose(run(model), before, atol=1e-6)
