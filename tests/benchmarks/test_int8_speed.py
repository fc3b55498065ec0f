from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from edgeproof_benchmarks.int8_speed import main


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for part, count in (("train", 6), ("test", 3)):
        for label in ("a", "b"):
            for number in range(count):
                file = tmp_path / part / label / f"{number}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(rng.integers(0, 255, (40, 40, 3), dtype=np.uint8)).save(file)
    return tmp_path


@pytest.mark.slow
def test_main__times_both_files_and_counts_what_runs_in_integers(photos: Path) -> None:
    torch.set_num_threads(1)
    words = [
        "--quick",
        "--data",
        str(photos),
        "--models",
        "cifar_resnet8",
        "--image-size",
        "32",
        "--threads",
        "1",
    ]
    record = main(words)
    assert set(record["latencies_ms"]) == {"cifar_resnet8 fp32", "cifar_resnet8 int8"}
    assert set(record["ratios"]) == {"cifar_resnet8 fp32 / int8"}
    found = record["figures"]["cifar_resnet8"]
    assert found["operators_int8"]["QLinearConv"] >= 7
    assert "Conv" not in found["operators_int8"]
    assert found["bytes_int8"] < 0.5 * found["bytes_fp32"]
    assert found["cosine_mean"] > 0.9
