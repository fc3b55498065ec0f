"""What is in the ONNX files of the forms: weights and their zeros, and the operators that run in integers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from edgeproof_configs.stage import StageContext
from edgeproof_deploy.forms import forms_of
from edgeproof_deploy.fused_ops import fusion_summary

ENGINE = "onnxruntime"
GROUP, KEPT = 4, 2


def counted_weights(context: StageContext) -> dict[str, dict[str, int]]:
    """Return `count_weights` of each form's file for ONNX Runtime, by the form's key."""
    exported = context.run.stage("export")
    return {
        form.key: count_weights(exported / form.onnx_name(ENGINE))
        for form in forms_of(context.recipe, context.run)
    }


def fused_operators(context: StageContext) -> dict[str, dict[str, Any]]:
    """Return what ONNX Runtime runs in integers of each INT8 form, by the form's key, also in words."""
    exported = context.run.stage("export")
    found: dict[str, dict[str, Any]] = {}
    for form in forms_of(context.recipe, context.run):
        if form.precision == "int8":
            summary = fusion_summary(exported / form.onnx_name(ENGINE), context.recipe.bench.threads)
            found[form.key] = {"words": summary.words(), **summary.to_dict()}
    return found


def count_weights(file: Path) -> dict[str, int]:
    """Count the weights that an ONNX file stores, as they are stored.

    Returns:
        `weights`: elements of all tensors of two dimensions and more, so no biases, scales and norms;
        `nonzero`: how many of them are not zero; `layers`: tensors; `layers_2_4`: tensors that are 2:4.
    """
    counts = {"weights": 0, "nonzero": 0, "layers": 0, "layers_2_4": 0}
    for tensor in onnx.load(file).graph.initializer:
        if len(tensor.dims) < 2:
            continue
        weight = numpy_helper.to_array(tensor)
        counts["weights"] += int(weight.size)
        counts["nonzero"] += int(np.count_nonzero(weight))
        counts["layers"] += 1
        counts["layers_2_4"] += int(is_2_4(weight))
    return counts


def is_2_4(weight: np.ndarray) -> bool:
    """Whether no four neighbours along the input channels hold more than two that are not zero.

    Args:
        weight: (O, I, ...) of a convolution or product; a matrix may be (I, O) as well.
    """
    axes = (1, 0) if weight.ndim == 2 else (1,)
    return any(weight.shape[axis] % GROUP == 0 and groups_hold(weight, axis) for axis in axes)


def groups_hold(weight: np.ndarray, axis: int) -> bool:
    """Whether the groups of four along an axis have at least two zeros each."""
    used = np.moveaxis(weight != 0, axis, -1)
    return bool((used.reshape(*used.shape[:-1], -1, GROUP).sum(axis=-1) <= KEPT).all())
