from __future__ import annotations

from pathlib import Path

import torch

from edgeproof_benchmarks.train_step import main


def test_main__trains_on_images_and_on_synthetic_tensors(image_files: list[Path]):
    torch.set_num_threads(1)
    record = main(["--quick", "--images", str(image_files[0].parent), "--device", "cpu"])
    assert set(record["latencies_ms"]) == {"epoch on images", "epoch on synthetic tensors"}
    assert record["settings"]["images"] == len(image_files)
    assert record["settings"]["steps"] == 2
    assert record["ratios"]["rate on images / rate on synthetic tensors"]["rounds"] == 1
    assert all(rate > 0 for rate in record["figures"].values())
