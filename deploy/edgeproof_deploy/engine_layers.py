"""Layer by layer what an engine computes a form in: from ONNX Runtime's graph, or a plan's inspector."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto

from edgeproof_deploy.fused_ops import optimised
from edgeproof_deploy.onnx_graph import OnnxGraph, attribute, label_of
from edgeproof_deploy.runtime.plan_layers import layers_of

NAMES: dict[int, str] = {
    TensorProto.FLOAT: "fp32",
    TensorProto.FLOAT16: "fp16",
    TensorProto.BFLOAT16: "bf16",
    TensorProto.DOUBLE: "fp64",
    TensorProto.INT8: "int8",
    TensorProto.UINT8: "int8",
    TensorProto.INT32: "int32",
    TensorProto.INT64: "int64",
    TensorProto.BOOL: "bool",
}
UNKNOWN = "unknown"
CONVERSIONS = ("QuantizeLinear", "DequantizeLinear", "Cast")
INTEGERS = (TensorProto.INT8, TensorProto.UINT8)
FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE)
QGEMM_INPUTS = 7
"""With more, `QGemm` has a scale for its result and rounds it; with as many it gives fp32."""


@dataclass(frozen=True)
class EngineLayer:
    """One step of what an engine runs.

    Attributes:
        name: of the node, or of all that were fused into it.
        kind: operator, or the inspector's type of layer.
        precision: `int8`, `fp16`, `fp32`, ...; `unknown` where the engine does not tell. Of a conversion it
            is that of its result.
        kernel: name of the chosen kernel where the engine tells.
    """

    name: str
    kind: str
    precision: str
    kernel: str = ""

    def to_dict(self) -> dict[str, str]:
        """Return plain data."""
        return asdict(self)


def layers_in_engine(engine: str, model: Path, session: Any) -> list[EngineLayer] | str:
    """Return the layers of what runs a form, in order, or why they are not known.

    Args:
        engine: kind of the engine.
        model: the ONNX file that it runs, or was built from.
        session: that runs it.
    """
    if hasattr(session, "inspect"):
        listed = layers_of(session.inspect())
        return [EngineLayer(one.name, one.kind, one.precision, one.kernel) for one in listed]
    if engine == "onnxruntime":
        return layers_in_onnxruntime(model)
    return f"{engine} does not say here what it computes in"


def layers_in_onnxruntime(model: Path | bytes) -> list[EngineLayer]:
    """Return the layers of an ONNX file as ONNX Runtime's CPU provider runs them.

    A layer computes in the type of its weights, or of its input where it has none; types that no file tells
    are followed from node to node.
    """
    graph = OnnxGraph(optimised(model))
    kinds = dict(graph.kinds())
    layers = []
    for node in graph.nodes:
        made = result_kind(node, kinds)
        kinds.update(dict.fromkeys(node.output, made))
        used = made if node.op_type in CONVERSIONS else computed_in(graph, node, kinds)
        layers.append(EngineLayer(label_of(node), node.op_type, NAMES.get(used, UNKNOWN)))
    return layers


def computed_in(graph: OnnxGraph, node: onnx.NodeProto, kinds: dict[str, int]) -> int:
    """Return the element type that a node computes in."""
    weights = [name for name in node.input[1:] if graph.is_constant(name) and graph.shape(name)]
    if node.op_type.startswith("Q") and any(kinds.get(name) in INTEGERS for name in node.input):
        return TensorProto.INT8
    for name in (*weights, *node.input):
        found = kinds.get(name, TensorProto.UNDEFINED)
        if found in FLOATS or found in INTEGERS:
            return found
    return next((kinds[name] for name in node.input if kinds.get(name)), TensorProto.UNDEFINED)


def result_kind(node: onnx.NodeProto, kinds: dict[str, int]) -> int:
    """Return the element type of what a node makes: told by the file, by the operator, or as its input."""
    told = next((kinds[name] for name in node.output if kinds.get(name)), TensorProto.UNDEFINED)
    if told:
        return told
    if node.op_type == "Cast":
        return int(attribute(node, "to", TensorProto.UNDEFINED))
    if node.op_type == "DequantizeLinear":
        return kinds.get(node.input[1], TensorProto.FLOAT)
    if node.op_type == "QGemm" and len(node.input) <= QGEMM_INPUTS:
        return TensorProto.FLOAT
    if node.op_type == "QuantizeLinear" or node.op_type.startswith(("QLinear", "QGemm")):
        return TensorProto.UINT8
    if node.op_type in ("Shape", "Size"):
        return TensorProto.INT64
    return next((kinds[name] for name in node.input if kinds.get(name)), TensorProto.UNDEFINED)
