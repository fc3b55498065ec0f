from __future__ import annotations

import json

import pytest

from edgeproof_deploy.runtime.plan_layers import PlanLayer, layers_of

CONVOLUTION = {
    "Name": "conv1 + relu1",
    "LayerType": "CaskConvolution",
    "Inputs": [{"Name": "x", "Dimensions": [1, 64, 8, 8], "Format/Datatype": "Thirty-two wide Int8 format"}],
    "Outputs": [{"Name": "y", "Format/Datatype": "Half"}],
    "HasSparseWeights": 1,
    "TacticName": "sm80_xmma_fprop_sparse_conv",
}
"""In the form of NVIDIA's documentation, by hand: no plan could be opened here."""


def test_layers_of__detailed() -> None:
    reformat = {
        "Name": "to fp32",
        "LayerType": "Reformat",
        "Inputs": [{"Format/Datatype": "N/A due to dynamic shapes"}],
    }
    newer = {"Name": "gemm", "LayerType": "gemm", "Outputs": [{"DataType": "BFloat16"}, {"Datatype": "FP8"}]}
    text = json.dumps({"Layers": [CONVOLUTION, reformat, newer], "Bindings": ["x", "y"]})
    first, second, third = layers_of(text)
    assert first == PlanLayer(
        "conv1 + relu1", "CaskConvolution", ("int8",), ("fp16",), "sm80_xmma_fprop_sparse_conv", True
    )
    assert first.precision == "int8"
    assert (second.inputs, second.precision, second.sparse) == (("unknown",), "unknown", None)
    assert third.outputs == ("bf16", "fp8")


def test_layers_of__names_alone() -> None:
    (layer,) = layers_of(json.dumps({"Layers": ["conv1 + relu1"], "I/O Tensors": []}))
    assert (layer.name, layer.precision, layer.kernel) == ("conv1 + relu1", "unknown", "")


@pytest.mark.parametrize("text", ["no json", "[]", "{}", '{"Layers": 3}', "[" * 100_000])
def test_layers_of__no_inspector_wrote_this(text: str) -> None:
    with pytest.raises(ValueError, match=r"Layers|Expecting value|too deeply"):
        layers_of(text)
