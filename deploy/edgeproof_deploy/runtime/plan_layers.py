"""What a plan is made of: name, kind, precision and kernel of each layer, from the package's inspector."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

PRECISIONS = {
    "int8": r"int8",
    "fp8": r"fp8|e4m3|e5m2",
    "int4": r"int4",
    "fp4": r"fp4|e2m1",
    "bf16": r"bf16|bfloat",
    "fp16": r"fp16|half",
    "int32": r"int32",
    "int64": r"int64",
    "bool": r"bool",
    "fp32": r"fp32|float",
}
"""Our name of a number format -> how the inspector writes it; the first that fits counts."""

UNKNOWN = "unknown"


@dataclass(frozen=True)
class PlanLayer:
    """One layer of a plan.

    Attributes:
        name: the ONNX nodes that were fused into it.
        kind: the inspector's type of layer, such as `CaskConvolution`.
        inputs: number format of each input; `unknown` where the inspector does not tell.
        outputs: number format of each output.
        kernel: name of the chosen tactic; empty where there is none.
        sparse: whether it computes with 2:4 sparse weights; None where the inspector does not tell.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    kernel: str
    sparse: bool | None

    @property
    def precision(self) -> str:
        """What it computes in: the format of its first input."""
        return (self.inputs or self.outputs or (UNKNOWN,))[0]


def layers_of(text: str) -> list[PlanLayer]:
    """Read what an engine inspector of TensorRT 10 or 11 or of TensorRT-RTX gives as JSON.

    A plan whose inspector tells names only gives layers with `unknown` precision.

    Raises:
        ValueError: it is no JSON of an inspector.
    """
    try:
        found = json.loads(text)
    except RecursionError as error:
        raise ValueError("the engine inspector's JSON is nested too deeply") from error
    if not isinstance(found, dict) or not isinstance(found.get("Layers"), list):
        raise ValueError("the engine inspector's JSON has no list of Layers")
    return [_layer(entry) for entry in found["Layers"]]


def _layer(entry: Any) -> PlanLayer:
    if not isinstance(entry, dict):
        return PlanLayer(str(entry), UNKNOWN, (), (), "", None)
    kernel = str(entry.get("TacticName", ""))
    sparse = entry.get("HasSparseWeights")
    return PlanLayer(
        name=str(entry.get("Name", "")),
        kind=str(entry.get("LayerType", UNKNOWN)),
        inputs=_formats(entry.get("Inputs")),
        outputs=_formats(entry.get("Outputs")),
        kernel=kernel,
        sparse=bool(sparse) if sparse is not None else None,
    )


def _formats(tensors: Any) -> tuple[str, ...]:
    listed = tensors if isinstance(tensors, list) else []
    return tuple(_precision(tensor) for tensor in listed if isinstance(tensor, Mapping))


def _precision(tensor: Mapping[str, Any]) -> str:
    keys = ("Format/Datatype", "DataType", "Datatype", "Format")
    text = next((str(tensor[key]) for key in keys if key in tensor), "")
    for name, pattern in PRECISIONS.items():
        if re.search(pattern, text, re.IGNORECASE):
            return name
    return UNKNOWN
