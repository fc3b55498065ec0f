"""Heads as ONNX nodes give in ONNX Runtime what the runtime gives."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper
from tests.deploy.runtime.fitted_heads import FORMS, make_head

from edgeproof_configs.errors import UsageError
from edgeproof_deploy.runtime.cascade_head import CascadeHead
from edgeproof_deploy.runtime.cascade_step import Step
from edgeproof_deploy.runtime.ensemble_head import EnsembleHead
from edgeproof_deploy.runtime.head import Head
from edgeproof_deploy.triton import with_head


def model(dim: int) -> onnx.ModelProto:
    """A model whose embedding is its input, `image` (batch, D)."""
    shape = ["batch", dim]
    graph = helper.make_graph(
        [helper.make_node("Identity", ["image"], ["embedding"])],
        "same",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, shape)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def shares_of(head: Head, rows: np.ndarray) -> np.ndarray:
    data = with_head(model(head.dim), head)
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["probabilities"], {"image": rows})[0])


@pytest.mark.parametrize("form", FORMS)
def test_with_head__says_what_the_runtime_says(form: str) -> None:
    head = make_head(form, 7)
    rows = np.random.default_rng(0).standard_normal((6, head.dim)).astype(np.float32)
    rows *= np.array([1, 0, 1e-3, 1e6, 25, 1], np.float32)[:, None]
    if form in ("classifier", "some_classes"):
        rows = rows.clip(-50, 50)
    found = shares_of(head, rows)
    np.testing.assert_allclose(found, head.probabilities(rows), atol=1e-5)
    np.testing.assert_allclose(shares_of(head, rows[:1]), found[:1], atol=1e-5)


@pytest.mark.parametrize("form", ["ensemble", "logit_ensemble"])
def test_with_head__a_bias_on_an_ensemble(form: str) -> None:
    head = make_head(form, 5)
    assert isinstance(head, EnsembleHead)
    moved = EnsembleHead(head.labels, head.members, head.weights, head.of, np.arange(5.0))
    rows = np.random.default_rng(0).standard_normal((4, 8)).astype(np.float32)
    np.testing.assert_allclose(shares_of(moved, rows), moved.probabilities(rows), atol=1e-5)
    assert np.abs(moved.probabilities(rows) - head.probabilities(rows)).max() > 0.1


def test_with_head__a_cascade_is_refused() -> None:
    head = make_head("linear")
    cascade = CascadeHead(head.labels, (Step(np.arange(5), np.ones(5), head=head),))
    with pytest.raises(UsageError, match="a head of the form cascade cannot be built into an ONNX file"):
        with_head(model(8), cascade)
