from __future__ import annotations

import numpy as np
import onnx
import pytest
from tests.deploy.small_graphs import Builder, counts, exported, run

from edgeproof_deploy.qdq_passes import drop_clips, fit_to_engine, split_gemms


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


def test_split_gemms__gives_the_same() -> None:
    model = exported()
    before = run(model)
    assert split_gemms(model) == 1
    onnx.checker.check_model(model, full_check=True)
    assert "Gemm" not in counts(model)
    assert counts(model)["MatMul"] == 1
    np.testing.assert_allclose(run(model), before, atol=1e-6)


def test_split_gemms__without_bias_and_not_in_floating_point() -> None:
    b = Builder()
    flat = b.add("Flatten", b.qdq("image"))
    x = b.add("Gemm", flat, b.weight(16, 192), transB=1)
    y = b.add("Gemm", x, b.float_weight(16, 4), b.store(np.zeros(4, np.float32)))
    model = b.model(y, (4,))
    before = run(model)
    assert split_gemms(model) == 1
    onnx.checker.check_model(model, full_check=True)
    assert (counts(model)["MatMul"], counts(model)["Gemm"]) == (1, 1)
    np.testing.assert_allclose(run(model), before, atol=1e-6)


def test_fit_to_engine__onnxruntime() -> None:
    model = exported()
    before = run(model)
    made = fit_to_engine(model, "onnxruntime")
    assert made == {"fold_pads": 0, "drop_clips": 2, "split_gemms": 1, "transpose_weights": 1}
    onnx.checker.check_model(model, full_check=True)
    assert set(counts(model)) & {"Pad", "Clip", "Relu", "Gemm", "Transpose"} == set()
    np.testing.assert_allclose(run(model), before, atol=1e-6)


def test_fit_to_engine__tensorrt_keeps_what_it_fuses_itself() -> None:
    model = exported()
    before = run(model)
    assert fit_to_engine(model, "tensorrt") == {"fold_pads": 0, "transpose_weights": 0}
    assert {"Gemm", "Relu", "Clip"} <= set(counts(model))
    np.testing.assert_allclose(run(model), before, atol=1e-6)
