from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest
from tests.benchmarks.machine.stand_in import FakeNvml

from edgeproof_benchmarks.memory import Memory, gpu_bytes, peak_memory
from edgeproof_configs.errors import EdgeproofError


def test_peak_memory__of_a_larger_batch_is_larger(tiny_onnx: Path):
    small = peak_memory(tiny_onnx, (1, 3, 8, 8), threads=1)
    large = peak_memory(tiny_onnx, (20_000, 3, 8, 8), threads=1)
    assert large.host_bytes > small.host_bytes + 2_000_000
    assert set(small.figures()) <= {"memory_bytes", "gpu_memory_bytes"}


def test_gpu_bytes__of_this_process_alone():
    class Running(NamedTuple):
        pid: int
        usedGpuMemory: int | None  # noqa: N815

    nvml = FakeNvml(count=2)
    lists = {0: [Running(7, 100), Running(8, 1000)], 1: [Running(7, 20), Running(7, None)]}
    nvml.nvmlDeviceGetComputeRunningProcesses = lists.__getitem__
    assert gpu_bytes(nvml, 7) == 120
    assert gpu_bytes(nvml, 9) is None
    assert gpu_bytes("not read: no driver", 7) is None
    assert Memory(5, 120).figures() == {"memory_bytes": 5, "gpu_memory_bytes": 120}


def test_peak_memory__of_something_else_says_why(tmp_path: Path):
    broken = tmp_path / "model.onnx"
    broken.write_bytes(b"not a model")
    with pytest.raises(EdgeproofError, match="cannot be loaded"):
        peak_memory(broken, (1, 3, 8, 8))
