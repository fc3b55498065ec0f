from __future__ import annotations

from pathlib import Path

import torch

from edgeproof_benchmarks.teacher_supply import CACHED, ONLINE, VIEWS, main


def test_main__trains_all_three_ways(image_files: list[Path]):
    torch.set_num_threads(1)
    record = main(["--quick", "--images", str(image_files[0].parent), "--device", "cpu"])
    assert set(record["latencies_ms"]) == {f"epoch, {way}" for way in (CACHED, VIEWS, ONLINE)}
    assert record["settings"]["images"] == len(image_files)
    assert set(record["ratios"]) == {f"rate of {way} / rate of {ONLINE}" for way in (CACHED, VIEWS)}
    assert all(rate > 0 for rate in record["figures"].values())
