"""From an ONNX file in fp32 to one in fp16: by casts in the file, compared before it is kept."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import helper

from edgeproof_configs.errors import EdgeproofError, GateError
from edgeproof_configs.files import write_bytes
from edgeproof_deploy.autocast import convert
from edgeproof_deploy.numerics import Numerics, numerics
from edgeproof_deploy.onnx_graph import OnnxGraph, label_of
from edgeproof_deploy.runtime.session import FATAL_ONLY, import_onnxruntime

SENSITIVE = ("LayerNormalization", "Softmax", "LogSoftmax", "Pow", "Exp")
"""Operators that stay in fp32 whatever values calibration saw: their sums and powers leave the range of fp16
for images that it did not see."""

COSINE_LIMIT = 0.999
CALIBRATION_IMAGES = 64
BATCH = 16


@dataclass(frozen=True)
class HalfResult:
    """What was written, and how far it is from the file in fp32.

    Attributes:
        size_bytes: of the file.
        nodes: how many operators the graph has, casts included.
        kept: names of the nodes that stayed in fp32, by operator.
        converted: how many nodes compute in fp16.
        images: how many were compared.
        cosine_min: worst cosine between an embedding in fp32 and in fp16.
        max_abs: largest absolute difference of one number of an embedding.
    """

    size_bytes: int
    nodes: int
    kept: dict[str, list[str]]
    converted: int
    images: int
    cosine_min: float
    max_abs: float


def to_fp16(source: Path, target: Path, images: np.ndarray) -> HalfResult:
    """Write a file in fp16 with the same inputs, outputs and texts, and compare it.

    Nodes whose values or weights leave what fp16 is exact enough for (512) stay in fp32, as do `SENSITIVE`
    ones. The comparison rounds the result of every other node to fp16 and adds up in fp32 within a node, as
    tensor cores do.

    Args:
        source: the file in fp32.
        target: the file to write, atomically.
        images: float32 (N, 3, H, W) real inputs, normalised. Ranges are taken from at most 64 of them, evenly
            spread; all are compared.

    Raises:
        MissingPackageError: AutoCast is not installed.
        EdgeproofError: AutoCast cannot convert the file.
        GateError: the result is not finite or not close enough; nothing is written.
    """
    original = onnx.load(source)
    _refuse_other_inputs(original, images)
    model = _converted(source, images)
    _keep_what_it_says(original, model)
    onnx.checker.check_model(model, full_check=True)
    data = model.SerializeToString(deterministic=True)
    found = numerics(_run(original, images), _run(_rounded(model), images))
    if found.nan or found.cosine_min is None or not found.cosine_min >= COSINE_LIMIT:
        told = f"{found.nan} of {len(images)} embeddings are not finite" if found.nan else _told(found)
        raise GateError(
            f"the model in fp16 differs from that in fp32: {told}",
            where=target,
            fix="nothing was written; leave fp16 out of deploy.precisions",
        )
    kept, converted = _precisions(model)
    write_bytes(target, data)
    assert found.max_abs is not None
    return HalfResult(
        len(data), len(model.graph.node), kept, converted, len(images), found.cosine_min, found.max_abs
    )


def input_of(model: onnx.ModelProto) -> str:
    """Return the name of a model's one input: `image` or `views`."""
    return model.graph.input[0].name


def _refuse_other_inputs(model: onnx.ModelProto, images: np.ndarray) -> None:
    graph = OnnxGraph(model)
    shape = graph.shape(input_of(model))
    # Axes that are free are named in the shape, or have no number at all.
    fits = shape is not None and len(shape) == images.ndim and images.shape[-3:] == shape[-3:]
    if images.dtype != np.float32 or not len(images) or not fits:
        raise ValueError(
            f"expected float32 images (N, *{shape and shape[1:]}), got {images.dtype} {images.shape}"
        )


def _converted(source: Path, images: np.ndarray) -> onnx.ModelProto:
    """Run AutoCast with images from evenly spread places."""
    count, name = min(len(images), CALIBRATION_IMAGES), input_of(onnx.load(source))
    chosen = images[np.linspace(0, len(images) - 1, count).astype(int)]
    with tempfile.TemporaryDirectory() as folder:
        for start in range(0, count, BATCH):
            some: Any = {name: chosen[start : start + BATCH]}
            np.savez(Path(folder) / f"{start:06d}.npz", **some)
        try:
            return convert(source, Path(folder), SENSITIVE)
        except (RuntimeError, ValueError, AssertionError, onnx.checker.ValidationError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
            raise EdgeproofError(
                f"the model cannot be converted to fp16: {reason}",
                where=source,
                fix="leave fp16 out of deploy.precisions",
            ) from error


def _keep_what_it_says(original: onnx.ModelProto, model: onnx.ModelProto) -> None:
    """Take over the texts and the version of the original."""
    del model.metadata_props[:]
    model.metadata_props.extend(original.metadata_props)
    for name in ("ir_version", "producer_name", "producer_version", "doc_string"):
        setattr(model, name, getattr(original, name))
    model.graph.name = original.graph.name


def _rounded(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy whose values in fp16 are really rounded where it is run on a CPU.

    There ONNX Runtime computes in fp32, with casts around every node, and removes two that follow each other.
    Two `Identity` in a row, which have a kernel for fp16, stay as they are and keep the casts apart.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    halves = {name for name, kind in _kinds(model).items() if kind == onnx.TensorProto.FLOAT16}
    nodes: list[onnx.NodeProto] = []
    for node in copy.graph.node:
        names = [name for name in node.output if name in halves]
        node.output[:] = [f"{name}.exact" if name in halves else name for name in node.output]
        nodes.append(node)
        for name in names:
            nodes.append(helper.make_node("Identity", [f"{name}.exact"], [f"{name}.half"]))
            nodes.append(helper.make_node("Identity", [f"{name}.half"], [name]))
    del copy.graph.node[:]
    del copy.graph.value_info[:]
    copy.graph.node.extend(nodes)
    return copy


def _run(model: onnx.ModelProto, images: np.ndarray) -> np.ndarray:
    """Return the embeddings as computed without any change of the graph."""
    runtime = import_onnxruntime()
    options = runtime.SessionOptions()
    options.log_severity_level = FATAL_ONLY
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = torch.get_num_threads()
    session = runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    chunks = [images[i : i + BATCH] for i in range(0, len(images), BATCH)]
    name = input_of(model)
    return np.concatenate([session.run(["embedding"], {name: chunk})[0] for chunk in chunks])


def _told(found: Numerics) -> str:
    return f"cosine {found.cosine_min:.6f} (limit {COSINE_LIMIT})"


def _precisions(model: onnx.ModelProto) -> tuple[dict[str, list[str]], int]:
    """Return the nodes that give fp32, by operator, and how many give fp16; casts are neither."""
    kinds = _kinds(model)
    kept: dict[str, list[str]] = {}
    converted = 0
    for node in model.graph.node:
        kind = kinds.get(node.output[0])
        if node.op_type in ("Cast", "Constant"):
            continue
        if kind == onnx.TensorProto.FLOAT:
            kept.setdefault(node.op_type, []).append(label_of(node))
        converted += kind == onnx.TensorProto.FLOAT16
    return kept, converted


def _kinds(model: onnx.ModelProto) -> dict[str, int]:
    """Return the element type of every computed tensor."""
    inferred = onnx.shape_inference.infer_shapes(model).graph
    return {
        value.name: value.type.tensor_type.elem_type for value in (*inferred.value_info, *inferred.output)
    }
