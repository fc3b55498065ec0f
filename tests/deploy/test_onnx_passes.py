from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from tests.deploy.small_graphs import Builder, counts, exported, run

from edgeproof_deploy.export import export_onnx
from edgeproof_deploy.onnx_graph import OnnxGraph, attribute
from edgeproof_deploy.onnx_passes import fold_pads, transpose_weights
from edgeproof_train.student import Student


def padded(
    before_after: list[int], value: float = 0.0, pads: Sequence[int] = (0, 0, 0, 0)
) -> onnx.ModelProto:
    """A `Pad` before a convolution."""
    b = Builder()
    x = b.add("Pad", "image", b.store(np.array(before_after, np.int64)), b.store(np.float32(value)))
    y = b.conv(x, (4, 3), pads=pads)
    return b.model(y, (4, 8, 8))


def pads_of(model: onnx.ModelProto) -> list[int]:
    return attribute(next(OnnxGraph(model).of_type("Conv")), "pads")


def test_fold_pads__on_one_side_more_than_on_the_other() -> None:
    model = padded([0, 0, 0, 2, 0, 0, 2, 0])
    before = run(model)
    assert fold_pads(model) == 1
    onnx.checker.check_model(model, full_check=True)
    assert "Pad" not in counts(model)
    assert pads_of(model) == [0, 2, 2, 0]
    np.testing.assert_allclose(run(model), before, atol=1e-6)


def test_fold_pads__adds_to_the_padding_of_the_convolution() -> None:
    model = padded([0, 0, 1, 0, 0, 0, 0, 1], pads=[0, 1, 1, 0])
    before = run(model)
    assert fold_pads(model) == 1
    assert pads_of(model) == [1, 1, 1, 1]
    np.testing.assert_allclose(run(model), before, atol=1e-6)


def test_fold_pads__named_axes() -> None:
    b = Builder()
    pads, axes = b.store(np.array([1, 2, 1, 0], np.int64)), b.store(np.array([-1, 2], np.int64))
    x = b.add("Pad", "image", pads, "", axes)
    model = onnx.shape_inference.infer_shapes(
        b.model(b.conv(x, (4, 3), pads=[0, 0, 0, 0]), (4, 8, 8), (3, 8, 8))
    )
    before = run(model)
    assert fold_pads(model) == 1
    assert pads_of(model) == [2, 1, 0, 1]
    np.testing.assert_allclose(run(model), before, atol=1e-6)


@pytest.mark.parametrize("zero", [0, 128])
def test_fold_pads__a_quantiser_between(zero: int) -> None:
    b = Builder()
    x = b.add("Pad", "image", b.store(np.array([0, 0, 2, 2, 0, 0, 0, 0], np.int64)))
    model = b.model(b.conv(b.qdq(x, 0.03, zero), (4, 3), pads=[0, 0, 0, 0]), (4, 8, 8))
    model = onnx.shape_inference.infer_shapes(model)
    before = run(model)
    assert fold_pads(model) == 1
    onnx.checker.check_model(model, full_check=True)
    np.testing.assert_allclose(run(model), before, atol=1e-6)


@pytest.mark.parametrize(
    "model",
    [
        padded([0, 0, 1, 1, 0, 0, 1, 1], value=1.0),
        padded([0, 0, -1, 2, 0, 0, 3, 0]),
    ],
)
def test_fold_pads__stays_where_it_is_no_zero_padding(model: onnx.ModelProto) -> None:
    before = counts(model)
    assert fold_pads(model) == 0
    assert counts(model) == before


def test_fold_pads__stays_where_something_else_sees_it() -> None:
    b = Builder()
    x = b.add("Pad", "image", b.store(np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64)))
    y = b.conv(x, (3, 3), pads=[1, 1, 1, 1])
    model = b.model(b.add("Add", x, y), (3, 10, 10))
    assert fold_pads(model) == 0


def test_fold_pads__stays_before_a_pool_and_where_channels_are_added() -> None:
    b = Builder()
    x = b.add("Pad", "image", b.store(np.array([0, 1, 1, 1, 0, 0, 1, 1], np.int64)))
    y = b.conv(x, (4, 4), pads=[0, 0, 0, 0])
    z = b.add("Pad", y, b.store(np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64)))
    model = b.model(b.add("MaxPool", z, kernel_shape=[3, 3]), (4, 8, 8))
    assert fold_pads(model) == 0
    assert counts(model)["Pad"] == 2


@pytest.mark.parametrize(
    "name", [pytest.param("mobilenetv2_050", marks=pytest.mark.slow), "test_efficientnet"]
)
def test_fold_pads__exports_with_same_padding(
    student_of: Callable[..., Student], tmp_path: Path, name: str
) -> None:
    student = student_of(name, 32, kwargs={"pad_type": "same"})
    export_onnx(student, tmp_path / "model.onnx")
    model = onnx.load(tmp_path / "model.onnx")
    assert "Pad" not in counts(model)
    strided = [attribute(node, "pads") for node in model.graph.node if attribute(node, "strides") == [2, 2]]
    assert [0, 0, 1, 1] in strided
    images = np.random.default_rng(5).standard_normal((2, 3, 32, 32)).astype(np.float32)
    with torch.inference_mode():
        expected = student(torch.from_numpy(images)).embedding.numpy()
    np.testing.assert_allclose(run(model), expected, atol=2e-6)


def test_transpose_weights__of_a_linear_layer_on_tokens() -> None:
    model = exported(tokens=True)
    before, size = run(model), model.ByteSize()
    transposes = counts(model)["Transpose"]
    assert transpose_weights(model) == 1
    onnx.checker.check_model(model, full_check=True)
    assert counts(model)["Transpose"] == transposes - 1
    graph = OnnxGraph(model)
    product = next(graph.of_type("MatMul"))
    restored = graph.producer(product.input[1])
    assert restored is not None
    assert restored.op_type == "DequantizeLinear"
    assert attribute(restored, "axis") == 1
    assert graph.shape(restored.input[0]) == (8, 16)
    assert model.ByteSize() < size + 100
    np.testing.assert_allclose(run(model), before, atol=1e-6)


def test_transpose_weights__one_scale_and_two_users() -> None:
    b = Builder()
    weight = b.add("Transpose", b.weight(8, 8, per_channel=False), perm=[1, 0])
    x = b.qdq("image")
    model = b.model(b.add("Add", b.add("MatMul", x, weight), b.add("MatMul", x, weight)), (3, 8, 8))
    before = run(model)
    assert transpose_weights(model) == 2
    assert counts(model)["DequantizeLinear"] == 2
    assert "Transpose" not in counts(model)
    np.testing.assert_allclose(run(model), before, atol=1e-6)


def test_transpose_weights__leaves_other_products_alone() -> None:
    b = Builder()
    keys = b.add("Transpose", b.qdq("image"), perm=[0, 1, 3, 2])
    columns = b.add("Transpose", b.weight(8, 8, axis=1), perm=[1, 0])
    model = b.model(b.add("MatMul", b.add("MatMul", "image", keys), columns), (3, 8, 8))
    before = counts(model)
    assert transpose_weights(model) == 0
    assert counts(model) == before
