from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from tests.deploy.bundles import CHANNELS, write_model
from tests.deploy.small_graphs import exported

from edgeproof_deploy.claims import Claim
from edgeproof_deploy.engine_claims import claims_in_openvino, claims_of
from edgeproof_deploy.qdq_passes import fit_to_engine


def outcomes(claims: list[Claim]) -> dict[str, str]:
    return {claim.claim: claim.outcome for claim in claims}


def sparse_model(path: Path) -> Path:
    return write_model(path, lambda weights: weights * (np.arange(CHANNELS) % 4 < 2)[None, :, None, None])


def test_claims_of__fp32_claims_nothing(tmp_path: Path) -> None:
    assert claims_of("x", "onnxruntime", tmp_path / "not read.onnx", None, "fp32", sparse=False) == []


def test_claims_of__an_engine_that_is_not_here_leaves_what_the_file_says(tmp_path: Path) -> None:
    file = sparse_model(tmp_path / "model.onnx")
    for model in (file, file.read_bytes()):
        found = claims_of("x", "tensorrt", model, None, "int8", sparse=True, why_not="no driver")
        assert outcomes(found) == {
            "int8": "not known here",
            "2:4 weights": "proven",
            "2:4 kernels": "not known here",
        }
        assert found[0].evidence == "no driver"


def test_claims_of__a_plan_is_asked_for_its_layers(tmp_path: Path) -> None:
    class Inspected:
        def inspect(self) -> str:
            return (
                '{"Layers": [{"Name": "a", "LayerType": "CaskConvolution", "TacticName": "sm80_i8i8_imma"}]}'
            )

    found = claims_of("x", "tensorrt", tmp_path / "x.engine", Inspected(), "int8", sparse=False)
    assert outcomes(found) == {"int8": "proven"}


def test_claims_of__an_engine_that_says_nothing(tmp_path: Path) -> None:
    model = tmp_path / "x.engine"
    (claim,) = claims_of("x", "onnxruntime_cuda", model, object(), "fp16", sparse=False)
    assert claim.evidence == "onnxruntime_cuda does not say what it computes in"


@pytest.mark.parametrize(
    ("layers", "precision", "outcome", "words"),
    [
        ([("Convolution", "u8"), ("FullyConnected", "i8"), ("Eltwise", "f32")], "int8", "proven", "2 of 2"),
        ([("Convolution", "f32"), ("MatMul", "u8")], "int8", "refuted", "1 of 2"),
        ([("Convolution", "f32")], "fp16", "refuted", "0 of 1"),
        ([("Convolution", "f16")], "fp16", "proven", "1 of 1"),
        ([("Reorder", "u8")], "int8", "not known here", "no convolution"),
    ],
)
def test_claims_in_openvino__by_the_layers_that_are_executed(
    layers: list[tuple[str, str]], precision: str, outcome: str, words: str
) -> None:
    (claim,) = claims_in_openvino("openvino", layers, precision, sparse=False)
    assert claim.outcome == outcome
    assert words in claim.evidence


def test_claims_of__openvino_itself(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    from edgeproof_deploy.runtime.openvino_session import OpenVinoSession

    def asked(model: bytes, precision: str) -> Any:
        session = OpenVinoSession(model, threads=1)
        return outcomes(claims_of("openvino", "openvino", model, session, precision, sparse=True))

    plain = sparse_model(tmp_path / "model.onnx").read_bytes()
    assert asked(plain, "fp32") == {"2:4 weights": "proven", "2:4 kernels": "not known here"}
    assert asked(plain, "int8")["int8"] == "refuted"
    rounded = exported()
    fit_to_engine(rounded, "onnxruntime")
    onnx.checker.check_model(rounded)
    assert asked(rounded.SerializeToString(), "int8")["int8"] == "proven"
