from __future__ import annotations

from pathlib import Path

import pytest

from edgeproof_benchmarks.memory import peak_memory
from edgeproof_configs.errors import EdgeproofError


def test_peak_memory__of_a_larger_batch_is_larger(tiny_onnx: Path):
    small = peak_memory(tiny_onnx, (1, 3, 8, 8), threads=1)
    large = peak_memory(tiny_onnx, (20_000, 3, 8, 8), threads=1)
    assert large > small + 2_000_000


def test_peak_memory__of_something_else_says_why(tmp_path: Path):
    broken = tmp_path / "model.onnx"
    broken.write_bytes(b"not a model")
    with pytest.raises(EdgeproofError, match="cannot be loaded"):
        peak_memory(broken, (1, 3, 8, 8))
