"""The claims of a form in whatever engine runs it, from what that engine tells of itself."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

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
from edgeproof_deploy.plan_claims import claims_of_plan

PRODUCTS = ("Convolution", "GroupConvolution", "FullyConnected", "MatMul")
PRECISIONS = {INT8: ("i8", "u8"), HALF: ("f16",)}
"""Claim -> how OpenVINO calls the numbers that a layer multiplies."""


def claims_of(
    form: str,
    engine: str,
    model: Path | bytes,
    session: Any,
    precision: str,
    *,
    sparse: bool,
    why_not: str = "it was not run here",
) -> list[Claim]:
    """Return the claims of a form.

    Args:
        form: what the form is called, with its engine.
        engine: that runs it.
        model: the ONNX file that it comes from, its bytes, or a plan.
        session: that runs it; None if it could not be run here.
        precision: fp32, fp16 or int8.
        sparse: whether it is a sparse form.
        why_not: why it could not be run here.
    """
    if not claimed(precision, sparse):
        return []
    has_onnx = find_spec("onnx") is not None
    if session is None:
        found = unknown(form, precision, sparse, why_not)
    elif engine == "onnxruntime" and has_onnx:
        from edgeproof_deploy.onnx_claims import claims_in_onnxruntime

        return claims_in_onnxruntime(form, model, precision, sparse)
    elif hasattr(session, "inspect"):
        found = claims_of_plan(form, session.inspect(), precision, sparse)
    elif hasattr(session, "layers"):
        found = claims_in_openvino(form, session.layers(), precision, sparse)
    else:
        reason = f"{engine} does not say what it computes in"
        found = unknown(form, precision, sparse, reason if has_onnx else "package onnx is not installed")
    is_file = isinstance(model, bytes) or model.suffix == ".onnx"
    return with_weights_of(model, found) if is_file and has_onnx else found


def with_weights_of(model: Path | bytes, claims: list[Claim]) -> list[Claim]:
    """Return the claims with what the file says about sparse weights, where the engine says nothing."""
    from edgeproof_deploy.onnx_claims import sparse_weights_in

    return [
        Claim(claim.form, claim.claim, *sparse_weights_in(model))
        if claim.claim == SPARSE_WEIGHTS and claim.outcome == "not known here"
        else claim
        for claim in claims
    ]


def claims_in_openvino(form: str, layers: list[tuple[str, str]], precision: str, sparse: bool) -> list[Claim]:
    """Return the claims of a model as OpenVINO's plug-in for the processor runs it.

    Args:
        form: what the form is called.
        layers: kind and numbers of each layer that is executed.
        precision: fp32, fp16 or int8.
        sparse: whether it is a sparse form.
    """
    numbers = [kind for name, kind in layers if name in PRODUCTS]
    found = []
    for claim in claimed(precision, sparse):
        outcome: Outcome = "not known here"
        told = "the file was not read"
        if claim in PRECISIONS and numbers:
            count = sum(kind in PRECISIONS[claim] for kind in numbers)
            outcome = "proven" if count > len(numbers) / 2 else "refuted"
            told = f"{count} of {len(numbers)} convolutions and products multiply {PRECISIONS[claim][0]}"
            told += "" if count == len(numbers) else f", others {', '.join(sorted(set(numbers)))}"
        elif claim in PRECISIONS:
            told = "OpenVINO names no convolution or product"
        elif claim == SPARSE_KERNELS:
            told = "OpenVINO does not say whether it skips zeros"
        found.append(Claim(form, claim, outcome, told))
    return found
