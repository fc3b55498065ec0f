"""The claims of a TensorRT plan, read from the list of layers that its inspector gives.

TensorRT's kernels say what they compute in their name: `i8i8`, `int8int8`, `imma`; `f16f16`, `h16816`;
`sparse_conv`, `sptensor`. Where a layer has no kernel's name, the number format of its first input counts.

Written after listings of TensorRT 8 to 10 and the documentation; the tests read a file made by hand in that
form. It has not been run on a plan of version 11, nor on a GPU.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

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
from edgeproof_deploy.runtime.plan_layers import UNKNOWN, PlanLayer, layers_of

COMPUTES = re.compile(r"conv|gemm|matrix.?multiply|fully.?connected", re.IGNORECASE)
KERNELS = {
    "int8": re.compile(r"i8i8|int8int8|s8s8|imma|i8816|i16832", re.IGNORECASE),
    "fp16": re.compile(r"f16f16|fp16|h16816|h1688|hmma|h884", re.IGNORECASE),
}
SPARSE_KERNEL = re.compile(r"sparse|sptensor|spgemm|spconv", re.IGNORECASE)


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
        ValueError: `inspected` is no JSON of the inspector.
    """
    if inspected is None:
        return unknown(form, precision, sparse, why_not)
    layers = layers_of(inspected)
    if layers and all(layer.kind == UNKNOWN for layer in layers):
        reason = "the plan tells names of layers only: it was built without detailed profiling verbosity"
        return unknown(form, precision, sparse, reason)
    computing = [layer for layer in layers if COMPUTES.search(layer.kind)]
    if not computing:
        return unknown(form, precision, sparse, "the plan names no convolution or product")
    found = {
        INT8: _computed_in("int8", computing),
        HALF: _computed_in("fp16", computing),
        SPARSE_WEIGHTS: _sparse_weights(computing),
        SPARSE_KERNELS: _sparse_kernels(computing),
    }
    return [Claim(form, name, *found[name]) for name in claimed(precision, sparse)]


def numbers_of(layer: PlanLayer) -> str:
    """Return what a layer multiplies: `int8`, `fp16`, or the format of its first input."""
    named = (numbers for numbers, pattern in KERNELS.items() if pattern.search(layer.kernel))
    return next(named, layer.precision)


def _computed_in(numbers: str, layers: Sequence[PlanLayer]) -> tuple[Outcome, str]:
    found = [numbers_of(layer) for layer in layers]
    if set(found) == {UNKNOWN}:
        return "not known here", "the plan says neither kernels nor number formats"
    count = found.count(numbers)
    told = f"{count} of {len(layers)} convolutions and products multiply {numbers}"
    rest = [layer.name for layer, kind in zip(layers, found, strict=True) if kind != numbers]
    if rest:
        told += f"; not {rest[0]}" + (f" and {len(rest) - 1} more" if len(rest) > 1 else "")
    return ("proven" if count > len(layers) / 2 else "refuted"), told


def _sparse_kernels(layers: Sequence[PlanLayer]) -> tuple[Outcome, str]:
    named = [layer for layer in layers if layer.kernel]
    if not named:
        return "not known here", "the plan names no kernels"
    count = sum(bool(SPARSE_KERNEL.search(layer.kernel)) for layer in named)
    told = f"{count} of {len(layers)} convolutions and products run a kernel for 2:4 weights"
    return ("proven" if count else "refuted"), told


def _sparse_weights(layers: Sequence[PlanLayer]) -> tuple[Outcome, str]:
    told = [layer.sparse for layer in layers if layer.sparse is not None]
    if not told:
        return "not known here", "the plan does not say which weights are 2:4"
    return ("proven" if any(told) else "refuted"), f"{sum(told)} of {len(told)} layers have 2:4 weights"
