from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from tests.deploy.small_graphs import Builder, exported

from edgeproof_deploy.claims import Claim
from edgeproof_deploy.half import to_fp16
from edgeproof_deploy.onnx_claims import claims_in_onnxruntime, has_2_4
from edgeproof_deploy.qdq_passes import fit_to_engine


def saved(model: onnx.ModelProto, folder: Path) -> Path:
    onnx.save(model, folder / "model.onnx")
    return folder / "model.onnx"


def outcomes(claims: list[Claim]) -> dict[str, str]:
    return {claim.claim: claim.outcome for claim in claims}


def test_claims_in_onnxruntime__int8_that_runs_in_integers_is_proven(tmp_path: Path) -> None:
    model = exported()
    fit_to_engine(model, "onnxruntime")
    (claim,) = claims_in_onnxruntime("onnxruntime int8", saved(model, tmp_path), "int8", sparse=False)
    assert (claim.claim, claim.outcome) == ("int8", "proven")
    assert claim.evidence == "3 layers run in integers, the file rounds the weights of 3"
    assert claim.words().startswith("onnxruntime int8: int8: proven (3 layers")


def test_claims_in_onnxruntime__a_rounded_layer_that_runs_in_floating_point_refutes_int8(
    tmp_path: Path,
) -> None:
    """As exported, the `Gemm` has a bias in floating point, which ONNX Runtime has no kernel for."""
    (claim,) = claims_in_onnxruntime("x", saved(exported(), tmp_path), "int8", sparse=False)
    assert claim.outcome == "refuted"
    assert claim.evidence.startswith(
        "2 layers run in integers, the file rounds the weights of 3; in floating"
    )


def float_network(values: np.ndarray) -> onnx.ModelProto:
    b = Builder()
    x = b.add("Relu", b.conv("image", (8, 3), name="first", weight=b.float_weight(8, 3, 3, 3)))
    return b.model(b.conv(x, (8, 8), name="second", weight=b.store(values)), (8, 8, 8))


def test_claims_in_onnxruntime__a_float_file_is_no_int8(tmp_path: Path) -> None:
    model = float_network(np.ones((8, 8, 3, 3), np.float32))
    (claim,) = claims_in_onnxruntime("x", saved(model, tmp_path), "int8", sparse=False)
    assert (claim.outcome, claim.evidence) == ("refuted", "the file rounds the weights of no layer")


def test_claims_in_onnxruntime__fp32_claims_nothing(tmp_path: Path) -> None:
    assert claims_in_onnxruntime("x", tmp_path / "not read.onnx", "fp32", sparse=False) == []


def test_claims_in_onnxruntime__half_precision_is_computed_in_fp32_on_a_cpu(
    onnx_file: Path, tmp_path: Path
) -> None:
    images = np.random.default_rng(0).standard_normal((4, 3, 32, 32)).astype(np.float32)
    to_fp16(onnx_file, tmp_path / "half.onnx", images)
    (claim,) = claims_in_onnxruntime("onnxruntime fp16", tmp_path / "half.onnx", "fp16", sparse=False)
    assert (claim.claim, claim.outcome) == ("half precision", "refuted")
    assert "with casts around them" in claim.evidence


def test_claims_in_onnxruntime__sparse_weights_are_counted_and_their_kernels_are_missing(
    tmp_path: Path,
) -> None:
    values = np.random.default_rng(0).standard_normal((8, 8, 3, 3)).astype(np.float32)
    dense = saved(float_network(values), tmp_path)
    assert outcomes(claims_in_onnxruntime("x", dense, "fp32", sparse=True))["2:4 weights"] == "refuted"
    values[:, [0, 3, 5, 6]] = 0
    found = claims_in_onnxruntime("x", saved(float_network(values), tmp_path), "fp32", sparse=True)
    assert outcomes(found) == {"2:4 weights": "proven", "2:4 kernels": "refuted"}
    assert found[0].evidence == "1 of 2 layers have 2:4 weights"


def test_claims_in_onnxruntime__rounded_weights_are_2_4_as_integers(tmp_path: Path) -> None:
    model = exported()
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor).copy()
        if values.ndim == 4 and values.shape[1] % 4 == 0:
            values[:, np.arange(values.shape[1]) % 4 < 2] = 0
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    found = claims_in_onnxruntime("x", saved(model, tmp_path), "int8", sparse=True)
    assert outcomes(found)["2:4 weights"] == "proven"


@pytest.mark.parametrize(
    ("shape", "zeros", "sparse"),
    [((4, 8), [0, 1, 6, 7], True), ((4, 8), [0, 1, 2, 3], False), ((4, 6), [0, 1, 2, 3, 4, 5], False)],
)
def test_has_2_4__groups_of_input_channels(shape: tuple[int, int], zeros: list[int], sparse: bool) -> None:
    weight = np.ones(shape, np.float32)
    weight[:, zeros] = 0
    assert has_2_4(weight) is sparse
    assert has_2_4(weight[:, :, None, None].repeat(3, 2).repeat(3, 3)) is sparse
