from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from edgeproof_benchmarks.plan_bytes import main


def test_main__builds_both_plans_and_tells_their_bytes(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    for part in ("train", "test"):
        for label in ("a", "b"):
            for number in range(5):
                file = tmp_path / part / label / f"{number}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(rng.integers(0, 255, (40, 40, 3), dtype=np.uint8)).save(file)
    words = ["--quick", "--data", str(tmp_path), "--models", "cifar_resnet8", "--image-size", "32"]
    found = main(words)["figures"]["cifar_resnet8"]
    assert found["onnx int8 / fp32"] < 0.5
    assert found["plan_bytes_fp32"] > 10_000
    assert found["plan int8 / fp32"] == round(found["plan_bytes_int8"] / found["plan_bytes_fp32"], 4)
