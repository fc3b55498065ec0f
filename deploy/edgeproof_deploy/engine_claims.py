"""The claims of a form in whatever engine runs it, from what that engine tells of itself."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from edgeproof_deploy.claims import Claim, claimed, unknown
from edgeproof_deploy.plan_claims import claims_of_plan


def claims_of(
    form: str, engine: str, model: Path | bytes, session: Any, precision: str, *, sparse: bool
) -> list[Claim]:
    """Return the claims of a form.

    Args:
        form: what the form is called, with its engine.
        engine: that runs it.
        model: the ONNX file that it comes from, or its bytes.
        session: that runs it; None if it could not be run here.
        precision: fp32, fp16 or int8.
        sparse: whether it is a sparse form.
    """
    if not claimed(precision, sparse):
        return []
    if session is None:
        return unknown(form, precision, sparse, "it was not run here")
    if engine == "onnxruntime":
        if find_spec("onnx") is None:
            return unknown(form, precision, sparse, "package onnx is not installed: pip install onnx")
        from edgeproof_deploy.onnx_claims import claims_in_onnxruntime

        return claims_in_onnxruntime(form, model, precision, sparse)
    if hasattr(session, "inspect"):
        return claims_of_plan(form, session.inspect(), precision, sparse)
    return unknown(form, precision, sparse, f"{engine} does not say here what it computes in")
