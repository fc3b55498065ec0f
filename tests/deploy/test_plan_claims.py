from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from edgeproof_deploy.plan_claims import claims_of_plan


def layer(number: int, kernel: str, form: str, sparse: int = 0) -> dict[str, Any]:
    """A convolution as the inspector of TensorRT 10 describes one."""
    return {
        "Name": f"/layer{number}/Conv + /layer{number}/Relu",
        "LayerType": "CaskConvolution",
        "Inputs": [
            {"Name": "x", "Location": "Device", "Dimensions": [1, 64, 56, 56], "Format/Datatype": form}
        ],
        "Outputs": [
            {"Name": "y", "Location": "Device", "Dimensions": [1, 64, 56, 56], "Format/Datatype": form}
        ],
        "ParameterType": "Convolution",
        "Kernel": [3, 3],
        "Groups": 1,
        "Weights": {"Type": "Int8", "Count": 36864},
        "HasSparseWeights": sparse,
        "Activation": "RELU",
        "TacticName": kernel,
        "TacticValue": "0x280b0ad3c23d8442",
        "StreamId": 0,
        "Metadata": f"[ONNX Layer: /layer{number}/Conv]",
    }


INT8_FORMAT = "Thirty-two wide channel vectorized row major Int8 format"
REFORMAT = {
    "Name": "Reformatting CopyNode for Input Tensor 0",
    "LayerType": "Reformat",
    "Inputs": [{"Name": "image", "Format/Datatype": "Row major linear FP32"}],
    "Outputs": [{"Name": "image'", "Format/Datatype": INT8_FORMAT}],
    "ParameterType": "Reformat",
    "TacticValue": "0x00000000000003e8",
}
MYELIN = {
    "Name": "/head/Gemm_myl9_4",
    "LayerType": "gemm",
    "Inputs": [{"Name": "features", "Dimensions": [1, 512], "Format/Datatype": "Half"}],
    "Outputs": [{"Name": "embedding", "Dimensions": [1, 128], "Format/Datatype": "Half"}],
    "TacticName": "sm80_xmma_gemm_f16f16_f16f32_f32_tn_n_tilesize64x64x64_stage4_tensor16x8x16",
}
DENSE = "sm80_xmma_fprop_implicit_gemm_interleaved_i8i8_i8i32_f32_nchw_vect_c_32kcrs_vect_c_32_tensor16x8x32"
SPARSE = "sm80_xmma_fprop_sparse_conv_interleaved_i8i8_i8i32_f32_nchw_vect_c_32_sptensor16x8x64"
CONVOLUTIONS = [layer(i, SPARSE if i < 3 else DENSE, INT8_FORMAT, i < 5) for i in range(8)]
BOTH: dict[str, Any] = {
    "Layers": [
        REFORMAT,
        *(layer(i, SPARSE if i < 3 else DENSE, INT8_FORMAT, i < 5) for i in range(8)),
        MYELIN,
    ],
    "Bindings": ["image", "embedding"],
}
"""A plan of a sparse student in INT8, made by hand in the form of TensorRT 10's inspector."""


def outcomes(plain: Any, precision: str = "int8", sparse: bool = True) -> dict[str, tuple[str, str]]:
    claims = claims_of_plan("tensorrt int8", json.dumps(plain), precision, sparse)
    return {claim.claim: (claim.outcome, claim.evidence) for claim in claims}


def test_claims_of_plan__int8_and_sparse_are_proven_by_the_kernels() -> None:
    assert outcomes(BOTH) == {
        "int8": (
            "proven",
            "8 of 9 convolutions and products multiply int8; not /head/Gemm_myl9_4",
        ),
        "2:4 weights": ("proven", "5 of 8 layers have 2:4 weights"),
        "2:4 kernels": ("proven", "3 of 9 convolutions and products run a kernel for 2:4 weights"),
    }


def test_claims_of_plan__sparse_weights_without_sparse_kernels_are_refuted() -> None:
    plain = copy.deepcopy(BOTH)
    for entry in plain["Layers"]:
        entry["TacticName"] = entry.get("TacticName", "").replace("sparse_conv", "conv").replace("sp", "")
    found = outcomes(plain)
    assert found["2:4 weights"][0] == "proven"
    assert found["2:4 kernels"][0] == "refuted"


def test_claims_of_plan__int8_that_fell_back_to_half_is_refuted() -> None:
    half = "sm80_xmma_fprop_implicit_gemm_f16f16_f16f16_f16_nhwckrsc_nhwc_tilesize128x32x64_tensor16x8x16"
    plain = {"Layers": [layer(i, half, "Half") for i in range(4)] + [layer(9, DENSE, INT8_FORMAT)]}
    assert outcomes(plain, sparse=False)["int8"] == (
        "refuted",
        "1 of 5 convolutions and products multiply int8; not /layer0/Conv + /layer0/Relu and 3 more",
    )
    assert outcomes(plain, "fp16", False)["half precision"][0] == "proven"


def test_claims_of_plan__the_formats_count_where_no_kernel_is_named() -> None:
    plain = {"Layers": [layer(i, "", INT8_FORMAT) for i in range(3)], "I/O Tensors": []}
    found = outcomes(plain)
    assert found["int8"][0] == "proven"
    assert found["2:4 kernels"] == ("not known here", "the plan names no kernels")


def test_claims_of_plan__names_alone_prove_nothing() -> None:
    found = outcomes({"Layers": ["/layer0/Conv + /layer0/Relu", "/head/Gemm"], "Bindings": []})
    assert {outcome for outcome, _ in found.values()} == {"not known here"}
    assert "without detailed profiling verbosity" in found["int8"][1]
    assert outcomes({"Layers": [REFORMAT]})["int8"][1] == "the plan names no convolution or product"


def test_claims_of_plan__a_plan_that_could_not_be_inspected() -> None:
    claims = claims_of_plan("tensorrt int8", None, "int8", True, "there is no NVIDIA driver on this machine")
    assert {claim.outcome for claim in claims} == {"not known here"}
    assert claims[0].evidence == "there is no NVIDIA driver on this machine"
    assert claims_of_plan("tensorrt fp32", None, "fp32", False, "no driver") == []


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"Layers": 3}'])
def test_claims_of_plan__what_is_no_list_of_layers_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        claims_of_plan("x", text, "int8", False)
