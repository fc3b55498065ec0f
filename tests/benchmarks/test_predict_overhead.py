from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from edgeproof_benchmarks.predict_overhead import ROUNDS_MORE, main
from edgeproof_configs.errors import DataError
from edgeproof_deploy.bundle import BundleParts, write_bundle
from edgeproof_deploy.runtime.preprocess import Preprocess


@pytest.fixture
def bundle(tmp_path: Path, tiny_onnx: Path) -> Path:
    head, parity = tmp_path / "head", tmp_path / "parity.json"
    head.mkdir()
    arrays = {"weight": np.eye(3, dtype=np.float32), "logit_scale": np.array([10.0], dtype=np.float32)}
    save_file(arrays, head / "head.safetensors")
    (head / "labels.txt").write_text("red\ngreen\nblue\n")
    parity.write_text(json.dumps({"pairs": []}))
    write_bundle(tmp_path / "bundle", BundleParts("tiny", [tiny_onnx], head, Preprocess(8, 8), parity))
    return tmp_path / "bundle"


def test_main__predicts_the_same_images_in_both_ways(bundle: Path, image_files: list[Path]):
    record = main([str(bundle), str(image_files[0].parent), "--quick"])
    assert set(record["latencies_ms"]) == {"predict", "decode + preprocess + session", "session alone"}
    assert record["settings"] == {"images": 4, "threads": 1, "image_size": 8, "labels": 3}
    assert record["ratios"]["predict / bare"]["rounds"] == 2 * ROUNDS_MORE
    share = record["figures"]["overhead_of_session"]
    assert share["low"] <= share["median"] <= share["high"]


def test_main__without_images(bundle: Path, tmp_path: Path):
    with pytest.raises(DataError, match="no image"):
        main([str(bundle), str(tmp_path / "head"), "--quick"])
