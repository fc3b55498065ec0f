from __future__ import annotations

from pathlib import Path

import torch

from edgeproof_benchmarks.embed_throughput import main


def test_main__embeds_and_runs_the_bare_teacher(image_files: list[Path]):
    torch.set_num_threads(1)
    record = main(["--quick", "--images", str(image_files[0].parent), "--device", "cpu"])
    assert set(record["latencies_ms"]) == {"embed", "bare forward"}
    assert record["settings"]["images"] == len(image_files)
    assert record["ratios"]["rate of embed / rate of bare forward"]["rounds"] == 1
