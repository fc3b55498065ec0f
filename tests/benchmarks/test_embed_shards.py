from __future__ import annotations

from pathlib import Path

import torch

from edgeproof_benchmarks.embed_shards import BARE, FILES, SHARDS, main


def test_main__embeds_shards_and_files_and_runs_the_bare_teacher(image_files: list[Path]):
    torch.set_num_threads(1)
    record = main(["--quick", "--images", str(image_files[0].parent), "--device", "cpu"])
    assert set(record["latencies_ms"]) == {SHARDS, FILES, BARE}
    assert record["settings"]["images"] == len(image_files)
