from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from tests.deploy.small_graphs import Builder, exported

from edgeproof_configs.errors import EdgeproofError
from edgeproof_deploy.fused_ops import fused_operators, fusion_summary
from edgeproof_deploy.qdq_passes import fit_to_engine


def test_fusion_summary__a_network_that_fits_runs_in_integers() -> None:
    model = exported()
    fit_to_engine(model, "onnxruntime")
    summary = fusion_summary(model.SerializeToString(), threads=1)
    assert summary.integer == {"convolutions": 2, "products": 1, "additions": 1}
    assert summary.floating == {"convolutions": [], "products": [], "additions": []}
    assert summary.operators["QLinearConv"] == 2
    assert summary.operators["QGemm"] == 1
    assert summary.is_whole
    assert summary.words() == "2 of 2 convolutions, 1 of 1 products, 1 of 1 additions in integers"


def test_fusion_summary__linear_layers_on_tokens() -> None:
    model = exported(tokens=True)
    fit_to_engine(model, "onnxruntime")
    summary = fusion_summary(model.SerializeToString(), threads=1)
    assert summary.integer["products"] == 1
    assert summary.is_whole


def test_fusion_summary__names_what_stayed_in_floating_point() -> None:
    """As exported, the `Gemm` has a bias in floating point, which ONNX Runtime has no kernel for."""
    summary = fusion_summary(exported().SerializeToString(), threads=1)
    assert summary.integer == {"convolutions": 2, "products": 0, "additions": 1}
    assert len(summary.floating["products"]) == 1
    assert not summary.is_whole


def test_fusion_summary__signed_integers_keep_the_rectifier_in_floating_point() -> None:
    b = Builder()
    x = b.add("Relu", b.conv(b.qdq("image", 0.02, 0, np.int8), (4, 3), name="first"))
    y = b.qdq(x, 0.02, 0, np.int8)
    model = b.model(b.qdq(b.conv(y, (4, 4), name="second"), 0.02, 0, np.int8), (4, 8, 8))
    summary = fusion_summary(model.SerializeToString(), threads=1)
    assert summary.integer["convolutions"] == 1
    assert [name.split("_")[0] for name in summary.floating["convolutions"]] == ["first"]
    assert summary.words() == "1 of 2 convolutions in integers"


def test_fusion_summary__a_product_of_computed_values_is_no_layer() -> None:
    b = Builder()
    x = b.add("MatMul", "image", b.add("Transpose", "image", perm=[0, 1, 3, 2]))
    summary = fusion_summary(b.model(x, (3, 8, 8)).SerializeToString())
    assert summary.floating["products"] == []
    assert summary.words() == "nothing in integers"
    assert not summary.is_whole


def test_fused_operators__of_a_file(tmp_path: Path) -> None:
    onnx.save(exported(), tmp_path / "toy.onnx")
    found = fused_operators(tmp_path / "toy.onnx", threads=1)
    assert found["QLinearConv"] == 2
    assert "Conv" not in found
    assert [file.name for file in tmp_path.iterdir()] == ["toy.onnx"]


def test_fused_operators__not_a_model(tmp_path: Path) -> None:
    (tmp_path / "toy.onnx").write_bytes(b"nothing")
    with pytest.raises(EdgeproofError, match="cannot be loaded by ONNX Runtime"):
        fused_operators(tmp_path / "toy.onnx")
