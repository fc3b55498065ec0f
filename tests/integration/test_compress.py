"""Every form of the student through the whole chain: sparse, INT8, half precision, and what is shipped."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from tests.integration.test_ship import edgeproof
from tests.integration.tiny import make_data, make_recipe

pytestmark = pytest.mark.integration

COMPRESS = {
    "sparsity": {"epochs": 1, "permute_seconds": 0.5},
    "quantization": {"method": "ptq", "images": 18},
}
LENIENT = {"zero_shot_drop": 1.0, "agreement": 0.0, "cosine": 0.0}
"""Of 18 test images one is 5.6 points."""


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("compressed")
    recipe = make_recipe(
        folder,
        make_data(folder / "data"),
        baseline=None,
        compress=COMPRESS,
        gates=LENIENT,
        deploy={"batch": [1, 2], "precisions": ["fp32", "fp16"]},
    )
    done = edgeproof("ship", recipe, "--run", folder / "run")
    assert done.returncode == 0, done.stderr
    return recipe, folder / "run"


def rows(run: Path) -> dict[tuple[str, str, str], dict[str, object]]:
    found = json.loads((run / "result.json").read_text())["rows"]
    return {(row["form"], row["engine"], row["precision"]): row for row in found}


def test_ship__every_form_has_a_row_and_ran(shipped: tuple[Path, Path]) -> None:
    found = rows(shipped[1])
    for form, precision in (
        ("student", "fp32"),
        ("student", "fp16"),
        ("student", "int8"),
        ("sparse", "fp32"),
        ("sparse", "int8"),
    ):
        row = found[form, "onnxruntime", precision]
        assert row["status"] == "run here"
        assert row["latency_ms"]
        assert row["parity"]
        assert found[form, "tensorrt_rtx", precision]["status"] == "built, not run here"


def test_ship__int8_files_are_a_fraction_and_hold_integers(shipped: tuple[Path, Path]) -> None:
    export = shipped[1] / "export"
    plain = (export / "model.onnx").stat().st_size
    for name in ("model.int8.onnx", "model.int8.trt.onnx", "model.sparse_int8.onnx"):
        assert (export / name).stat().st_size < 0.5 * plain
        weights = [one for one in onnx.load(export / name).graph.initializer if len(one.dims) == 4]
        assert weights
        assert all(one.data_type == onnx.TensorProto.INT8 for one in weights)


def test_ship__zeros_reach_the_files(shipped: tuple[Path, Path]) -> None:
    for name in ("model.sparse.onnx", "model.sparse_int8.onnx", "model.sparse_int8.trt.onnx"):
        counted = 0
        for one in onnx.load(shipped[1] / "export" / name).graph.initializer:
            weight = numpy_helper.to_array(one)
            if weight.ndim == 4 and weight.shape[1] % 16 == 0 and weight.shape[0] % 8 == 0:
                groups = np.moveaxis(weight, 1, -1).reshape(-1, 4)
                assert ((groups != 0).sum(axis=1) <= 2).all(), one.name
                counted += 1
        assert counted


def test_predict__any_model_of_the_bundle(shipped: tuple[Path, Path]) -> None:
    bundle = shipped[1] / "bundle"
    recommended = json.loads((bundle / "manifest.json").read_text())["model"]
    assert (bundle / recommended).exists()
    photo = next((shipped[0].parent / "data" / "test").rglob("*.png"))
    best = {}
    for model in (recommended, "model.onnx", "model.int8.onnx", "model.sparse_int8.onnx"):
        words = [bundle, photo, "--json", "--model", model]
        command = [sys.executable, "-m", "edgeproof_deploy.runtime", *map(str, words)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        best[model] = json.loads(done.stdout)["predictions"][0]["labels"][0]["label"]
    assert best["model.onnx"] == best["model.int8.onnx"]


def test_ship__again_has_nothing_to_do_and_other_settings_are_refused(shipped: tuple[Path, Path]) -> None:
    recipe, run = shipped
    assert "nothing to do" in edgeproof("ship", recipe, "--run", run).stdout
    refused = edgeproof("ship", recipe, "--run", run, "--set", "compress.quantization.images=9")
    assert refused.returncode == 2
    assert "--from" in refused.stderr


def test_ship__a_wrong_layer_is_refused_before_anything_is_read(
    shipped: tuple[Path, Path], tmp_path: Path
) -> None:
    setting = "compress.quantization.exclude=[hed]"
    refused = edgeproof("ship", shipped[0], "--run", tmp_path / "run", "--set", setting)
    assert refused.returncode == 2
    assert "no layer matches 'hed'. Did you mean 'head'?" in refused.stderr
    assert not (tmp_path / "run" / "embed").exists()


def test_ship__a_compressed_form_that_fails_is_left_out_of_the_bundle(
    shipped: tuple[Path, Path], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(shipped[1], run)
    # No rounding leaves a mean cosine of 1.
    setting = "gates={zero_shot_drop: 1.0, agreement: 0.0, cosine: 0.9999999, teacher_drop: 1.0}"
    done = edgeproof("ship", shipped[0], "--run", run, "--from", "verify", "--set", setting)
    assert done.returncode == 3
    assert "int8: cosine" in done.stderr
    assert "\nShip ONNX Runtime" in done.stdout
    manifest = json.loads((run / "bundle" / "manifest.json").read_text())
    assert manifest["model"] in manifest["files"]
    assert "model.int8.onnx" not in manifest["files"]
    assert "cosine" in manifest["left_out"]["model.int8.onnx"]
    assert edgeproof("verify", run / "bundle").returncode == 0
