"""The claims of an ONNX file, read from the graph that ONNX Runtime makes of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx

from edgeproof_deploy.claims import HALF, INT8, SPARSE_KERNELS, SPARSE_WEIGHTS, Claim, Outcome, claimed
from edgeproof_deploy.fused_ops import optimised, summary_of
from edgeproof_deploy.onnx_graph import OnnxGraph, label_of

LAYERS = ("Conv", "Gemm", "MatMul", "FusedConv", "FusedGemm", "FusedMatMul")
GROUP, KEPT = 4, 2
NAMED = 3


def claims_in_onnxruntime(
    form: str, model: Path | bytes, precision: str, sparse: bool, threads: int | None = 1
) -> list[Claim]:
    """Return the claims of an ONNX file as ONNX Runtime runs it on this CPU.

    Args:
        form: what the form is called.
        model: the file, or its bytes.
        precision: fp32, fp16 or int8.
        sparse: whether it is a sparse form.
        threads: for loading it.

    Raises:
        UnavailableError: onnxruntime is not installed.
        EdgeproofError: the file is no model that it can load.
    """
    wanted = claimed(precision, sparse)
    if not wanted:
        return []
    stored = graph_of(model)
    checks = {
        SPARSE_WEIGHTS: lambda: _sparse_weights(stored),
        SPARSE_KERNELS: lambda: (
            "refuted",
            "ONNX Runtime has no kernels for 2:4: it multiplies the zeros as any number",
        ),
    }
    if precision != "fp32":
        run = optimised(model, threads)
        checks |= {INT8: lambda: _integers(stored, run), HALF: lambda: _halves(run)}
    return [Claim(form, name, *checks[name]()) for name in wanted]


def sparse_weights_in(model: Path | bytes) -> tuple[Outcome, str]:
    """Return whether an ONNX file holds 2:4 weights, and in how many layers."""
    return _sparse_weights(graph_of(model))


def graph_of(model: Path | bytes) -> OnnxGraph:
    """Return the graph of a file, or of its bytes."""
    return OnnxGraph(onnx.load(model) if isinstance(model, Path) else onnx.load_model_from_string(model))


def _integers(stored: OnnxGraph, run: onnx.ModelProto) -> tuple[Outcome, str]:
    """Compare the layers whose weights the file rounds with the layers that run in integers."""
    rounded = sum(
        stored.is_constant(maker.input[0])
        for node in stored.of_type(*LAYERS)
        if (maker := stored.producer(node.input[1])) is not None and maker.op_type == "DequantizeLinear"
    )
    summary = summary_of(run)
    integer = summary.integer["convolutions"] + summary.integer["products"]
    floating = [*summary.floating["convolutions"], *summary.floating["products"]]
    if not rounded and not integer:
        return "refuted", "the file rounds the weights of no layer"
    told = f"{integer} layers run in integers, the file rounds the weights of {rounded}"
    if floating:
        told += f"; in floating point: {_named(floating)}"
    return ("proven" if integer >= rounded else "refuted"), told


def _halves(run: onnx.ModelProto) -> tuple[Outcome, str]:
    """Count the layers that take fp16, and those that ONNX Runtime put casts to fp32 around."""
    graph = OnnxGraph(onnx.shape_inference.infer_shapes(run))
    kinds = graph.kinds()
    layers = [node for node in graph.of_type(*LAYERS) if len(node.input) > 1]
    single = [label_of(node) for node in layers if kinds.get(node.input[0]) == onnx.TensorProto.FLOAT]
    half = len(layers) - len(single)
    told = f"{half} of {len(layers)} layers compute in fp16"
    if single:
        told += f"; in fp32, with casts around them: {_named(single)}"
    return ("proven" if half and half >= len(layers) / 2 else "refuted"), told


def _sparse_weights(stored: OnnxGraph) -> tuple[Outcome, str]:
    """Count the layers whose stored weights have two zeros in every four input channels."""
    weights = {label_of(node): weight_of(stored, node) for node in stored.of_type("Conv", "Gemm", "MatMul")}
    known = {name: weight for name, weight in weights.items() if weight is not None}
    sparse = [name for name, weight in known.items() if has_2_4(weight)]
    return ("proven" if sparse else "refuted"), f"{len(sparse)} of {len(known)} layers have 2:4 weights"


def weight_of(graph: OnnxGraph, node: onnx.NodeProto) -> np.ndarray | None:
    """Return a layer's weight as (O, I) or (O, I, kH, kW), rounded or not; None where it is not stored."""
    name = node.input[1]
    maker = graph.producer(name)
    if maker is not None and maker.op_type == "DequantizeLinear":
        name = maker.input[0]
    weight = graph.constant(name)
    if weight is None or node.op_type == "Conv":
        return weight
    turned = node.op_type == "Gemm" and any(a.name == "transB" and a.i for a in node.attribute)
    return weight if turned else np.swapaxes(weight, -1, -2)


def has_2_4(weight: np.ndarray) -> bool:
    """Whether every four input channels in a row hold at least two zeros.

    Args:
        weight: (O, I) or (O, I, kH, kW); False for other shapes, or where I is no multiple of 4.
    """
    if weight.ndim not in (2, 4) or weight.shape[1] % GROUP:
        return False
    groups = np.moveaxis(weight, 1, -1).reshape(-1, GROUP)
    return bool(((groups != 0).sum(axis=1) <= KEPT).all())


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
