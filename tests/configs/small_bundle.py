"""A bundle of small models under the names of several forms, with a parity.json that a test sets."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save_file

from edgeproof_deploy.bundle import BundleParts, write_bundle
from edgeproof_deploy.runtime.preprocess import Preprocess

SIDE = 16


def write_model(path: Path, layers: int = 1, batch: int | str = "batch", side: int | str = SIDE) -> Path:
    """Write a model of some convolutions: image (B, 3, side, side) to embedding (B, 3)."""
    random = np.random.default_rng(0)
    weights = [
        numpy_helper.from_array(random.normal(0, 0.2, (3, 3, 3, 3)).astype(np.float32), f"w{index}")
        for index in range(layers)
    ]
    names = ["image", *(f"features{index}" for index in range(layers))]
    nodes = [
        helper.make_node("Conv", [names[index], f"w{index}"], [names[index + 1]], pads=[1, 1, 1, 1])
        for index in range(layers)
    ]
    nodes.append(helper.make_node("GlobalAveragePool", [names[-1]], ["pooled"]))
    nodes.append(helper.make_node("Flatten", ["pooled"], ["embedding"]))
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, 3, side, side])
    embedding = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, [batch, 3])
    graph = helper.make_graph(nodes, "tiny", [image], [embedding], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return path


def pair(candidate: str, top1: float, reference: str = "pytorch fp32", **more: Any) -> dict[str, Any]:
    """Return a pair of parity.json whose reference reached 0.9."""
    return {
        "reference": reference,
        "candidate": candidate,
        "n": 500,
        "drop": 0.9 - top1,
        "interval": [top1 - 0.9 - 0.01, top1 - 0.9 + 0.01],
        "metrics": {"reference": {"top1": 0.9}, "candidate": {"top1": top1}},
        "gates": [],
    } | more


PAIRS = (
    pair("pytorch fp32", 0.9, reference="teacher", drop=0.05),
    pair("onnxruntime fp32", 0.9),
    pair("onnxruntime int8", 0.885),
)


def make_bundle(
    folder: Path,
    pairs: Sequence[Mapping[str, Any]] = PAIRS,
    models: Mapping[str, int] | None = None,
) -> Path:
    """Write a bundle with models of so many layers, by file name."""
    head, parts = folder / "head", folder / "parts"
    for place in (head, parts):
        place.mkdir(parents=True)
    arrays = {"weight": np.eye(3, dtype=np.float32), "logit_scale": np.array([10.0], dtype=np.float32)}
    save_file(arrays, head / "head.safetensors")
    (head / "labels.txt").write_text("red\ngreen\nblue\n")
    (folder / "parity.json").write_text(json.dumps({"schema_version": 1, "pairs": list(pairs)}))
    wanted = models or {"model.onnx": 80, "model.int8.onnx": 1}
    files = [write_model(parts / name, layers) for name, layers in wanted.items()]
    described = BundleParts("tiny", files, head, Preprocess(SIDE, SIDE), folder / "parity.json")
    write_bundle(folder / "bundle", described)
    return folder / "bundle"
