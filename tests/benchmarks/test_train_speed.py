from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from edgeproof_benchmarks.train_speed import EAGER, WAYS, main


@pytest.mark.slow
def test_main__eager_ways_on_a_cpu():
    torch.set_num_threads(1)
    record = main(["--quick", "--device", "cpu", "--no-compile"])
    ways = [name for name, way in WAYS.items() if not way.compile]
    assert set(record["latencies_ms"]) == {f"1 steps, {name}" for name in ways}
    assert set(record["ratios"]) == {f"{EAGER} / {name}" for name in ways[1:]}


@pytest.mark.integration
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_main__without_a_gpu_it_says_so():
    command = [sys.executable, "-m", "edgeproof_benchmarks.train_speed", "--quick"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 5
    assert "no CUDA device" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.gpu
def test_main__all_ways_on_a_gpu():
    record = main(["--quick"])
    assert set(record["ratios"]) == {f"{EAGER} / {name}" for name in WAYS if name != EAGER}
