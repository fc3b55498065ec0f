"""ONNX files that are no student's: every engine refuses them in the same words."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from edgeproof_configs.errors import EdgeproofError
from edgeproof_deploy.engine import BuildOptions, make_engine

PACKAGES = {"onnxruntime": "onnxruntime", "openvino": "openvino", "tensorrt_rtx": "tensorrt_rtx"}


def model(path: Path, takes: str, gives: str, shape: list[str | int]) -> Path:
    """Write a valid file whose output is twice its input."""
    tensors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in (takes, gives)]
    node = helper.make_node("Add", [takes, takes], [gives])
    graph = helper.make_graph([node], "g", tensors[:1], tensors[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return path


@pytest.mark.parametrize("kind", PACKAGES)
@pytest.mark.parametrize(
    ("takes", "gives", "shape", "told"),
    [
        ("input", "embedding", ["batch", 3, 8, 8], "has the inputs input; expected one of image, views"),
        ("image", "scores", ["batch", 3, 8, 8], "has the outputs scores; expected embedding or logits"),
        ("image", "embedding", ["batch", 8, 8, 3], "channels last; expected .batch, 3, height, width."),
        ("image", "embedding", ["batch", 3, 64], "expected .batch, 3, height, width."),
        ("views", "embedding", ["batch", 3, 8, 8], "expected .batch, views, 3, height, width."),
    ],
)
def test_engines__other_names_or_another_layout(
    tmp_path: Path, kind: str, takes: str, gives: str, shape: list[str | int], told: str
) -> None:
    pytest.importorskip(PACKAGES[kind], reason=f"{PACKAGES[kind]} is not installed")
    file = model(tmp_path / "model.onnx", takes, gives, shape)
    engine = make_engine(kind)
    with pytest.raises(EdgeproofError, match=told) as caught:
        engine.open(engine.build(file, tmp_path / "out", BuildOptions()))
    assert caught.value.exit_code == 1
    assert caught.value.where == str(file)
    assert not (tmp_path / "out").exists()
