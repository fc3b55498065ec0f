from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from edgeproof_benchmarks.fixed_head import main


@pytest.mark.slow
def test_main__chunks_take_less_memory_for_the_same_gradient(tmp_path: Path):
    torch.set_num_threads(1)
    out = tmp_path / "fixed_head.json"
    record = main(["--quick", "--device", "cpu", "--out", str(out)])
    assert json.loads(out.read_text()) == record
    assert set(record["latencies_ms"]) == {"dense", "chunked"}
    assert record["ratios"]["chunked / dense"]["rounds"] == 2
    figures = record["figures"]
    assert figures["relative difference of the gradients"] < 1e-4
    # One matrix of scores is 64 x 20,000 x 4 bytes, and the dense way holds several.
    assert figures["bytes that one step adds, dense"] > 2 * 64 * 20_000 * 4
    dense, chunked = (figures[f"bytes that one step adds, {way}"] for way in ("dense", "chunked"))
    assert chunked < dense / 2
