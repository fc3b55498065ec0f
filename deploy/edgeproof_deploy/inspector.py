"""What TensorRT's inspector says about a plan: which kernel runs each layer, and in which numbers.

`IEngineInspector.get_engine_information(LayerInformationFormat.JSON)` gives one object with `Layers`, and
with `Bindings` (TensorRT 10) or `I/O Tensors` (11). Of a plan built with detailed profiling verbosity
a layer is an object with `Name`, `LayerType`, `Inputs` and `Outputs` (each with `Format/Datatype`) and mostly
`TacticName`; of any other plan it is only its name. TensorRT's kernels say what they compute in their name:
`i8i8`, `int8int8`, `imma`; `f16f16`, `h16816`; `sparse_conv`, `sptensor`.

Written after the public documentation and listings of TensorRT 8 to 10; the tests read a file made by hand in
that form. It has not been compared with a plan of version 11.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgeproof_configs.errors import EdgeproofError
from edgeproof_deploy.claims import (
    HALF,
    INT8,
    SPARSE_KERNELS,
    SPARSE_WEIGHTS,
    Claim,
    Outcome,
    claimed,
    unknown,
)

COMPUTES = ("convolution", "gemm", "matrix multiply", "matrixmultiply", "fully connected", "deconvolution")
INTEGER_KERNEL = re.compile(r"i8i8|int8int8|s8s8|imma|_i8816|_i16832|_i32i8")
HALF_KERNEL = re.compile(r"f16f16|fp16|h16816|h1688|hmma|_h884|half")
SPARSE_KERNEL = re.compile(r"sparse|sptensor|spgemm|spconv")


@dataclass(frozen=True)
class PlanLayer:
    """A layer of a plan.

    Attributes:
        name: with the names of the ONNX nodes that went into it.
        kind: `CaskConvolution`, `gemm`, `Reformat`, ...
        tactic: the kernel's name, empty where it is not said.
        inputs: `Format/Datatype` of each input, such as `Half` or `Thirty-two wide channel vectorized
            row major Int8 format`.
        weights: type of its weights, such as `Int8`; empty where it is not said.
        sparse_weights: whether TensorRT found its weights to be 2:4; None where it is not said.
    """

    name: str
    kind: str
    tactic: str = ""
    inputs: tuple[str, ...] = ()
    weights: str = ""
    sparse_weights: bool | None = None

    @property
    def computes(self) -> bool:
        """Whether it is a convolution or a product with weights."""
        return any(word in self.kind.lower() for word in COMPUTES)

    @property
    def in_integers(self) -> bool:
        """Whether it multiplies 8-bit integers."""
        numbers = any("int8" in text.lower() for text in (*self.inputs[:1], self.weights))
        return bool(INTEGER_KERNEL.search(self.tactic.lower())) or (numbers and not self.in_half)

    @property
    def in_half(self) -> bool:
        """Whether it multiplies numbers in half precision."""
        if self.tactic:
            tactic = self.tactic.lower()
            return bool(HALF_KERNEL.search(tactic)) and not INTEGER_KERNEL.search(tactic)
        return any("half" in text.lower() or "fp16" in text.lower() for text in self.inputs[:1])

    @property
    def is_sparse(self) -> bool:
        """Whether its kernel skips the zeros of 2:4 weights."""
        return bool(SPARSE_KERNEL.search(self.tactic.lower()))


def parse_inspector(text: str) -> list[PlanLayer] | None:
    """Return the layers of a plan, or None where only their names are told.

    Args:
        text: what the inspector gave as JSON.

    Raises:
        EdgeproofError: it is no JSON of this form.
    """
    try:
        plain = json.loads(text)
        layers = plain["Layers"]
        if not isinstance(layers, list):
            raise TypeError("'Layers' is no list")
        if all(isinstance(layer, str) for layer in layers):
            return None
        return [_layer(layer) for layer in layers]
    except (ValueError, TypeError, KeyError, AttributeError, ArithmeticError, RecursionError) as error:
        raise EdgeproofError(
            f"this is not what TensorRT's inspector gives: {type(error).__name__}: {str(error)[:200]}",
            fix="build the plan again",
        ) from error


def _layer(plain: Any) -> PlanLayer:
    if not isinstance(plain, dict):
        raise TypeError(f"expected an object for each layer, got {str(plain)[:60]!r}")
    weights = plain.get("Weights")
    sparse = plain.get("HasSparseWeights")
    return PlanLayer(
        name=str(plain["Name"]),
        kind=str(plain.get("LayerType", "")),
        tactic=str(plain.get("TacticName", "")),
        inputs=tuple(str(value.get("Format/Datatype", "")) for value in plain.get("Inputs", [])),
        weights=str(weights.get("Type", "")) if isinstance(weights, dict) else "",
        sparse_weights=None if sparse is None else bool(int(sparse)),
    )


def claims_of_plan(
    form: str, inspected: str | None, precision: str, sparse: bool, why_not: str = ""
) -> list[Claim]:
    """Return the claims of a plan.

    Args:
        form: what the form is called.
        inspected: what the inspector gave as JSON; None where the plan could not be inspected.
        precision: fp32, fp16 or int8.
        sparse: whether it is a sparse form.
        why_not: why it could not be inspected.

    Raises:
        EdgeproofError: `inspected` is no JSON of the inspector.
    """
    if inspected is None:
        return unknown(form, precision, sparse, why_not)
    layers = parse_inspector(inspected)
    if layers is None:
        reason = "the plan tells names of layers only; it was built without detailed profiling verbosity"
        return unknown(form, precision, sparse, reason)
    computing = [layer for layer in layers if layer.computes]
    if not computing:
        return unknown(form, precision, sparse, "the plan names no convolution or product")
    found = {
        INT8: _share(computing, [layer.in_integers for layer in computing], "multiply 8-bit integers"),
        HALF: _share(computing, [layer.in_half for layer in computing], "multiply in half precision"),
        SPARSE_WEIGHTS: _sparse_weights(computing),
        SPARSE_KERNELS: _sparse_kernels(computing),
    }
    return [Claim(form, name, *found[name]) for name in claimed(precision, sparse)]


def _share(layers: Sequence[PlanLayer], holds: Sequence[bool], words: str) -> tuple[Outcome, str]:
    rest = [layer.name for layer, held in zip(layers, holds, strict=True) if not held]
    more = f"; not {rest[0]}" + (f" and {len(rest) - 1} more" if len(rest) > 1 else "") if rest else ""
    outcome: Outcome = "proven" if sum(holds) > len(layers) / 2 else "refuted"
    return outcome, f"{sum(holds)} of {len(layers)} layers {words}{more}"


def _sparse_kernels(layers: Sequence[PlanLayer]) -> tuple[Outcome, str]:
    named = [layer for layer in layers if layer.tactic]
    if not named:
        return "not known here", "the plan names no kernels"
    count = sum(layer.is_sparse for layer in named)
    return ("proven" if count else "refuted"), f"{count} of {len(layers)} layers run a kernel for 2:4 weights"


def _sparse_weights(layers: Sequence[PlanLayer]) -> tuple[Outcome, str]:
    told = [layer.sparse_weights for layer in layers if layer.sparse_weights is not None]
    if not told:
        return "not known here", "the plan does not say which weights are 2:4"
    return ("proven" if any(told) else "refuted"), f"{sum(told)} of {len(told)} layers have 2:4 weights"
