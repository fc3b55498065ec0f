from __future__ import annotations

import sys
from pathlib import Path

import pytest

from edgeproof_benchmarks.openvino_peers import OURS, THEIRS, main, reported
from edgeproof_configs.errors import EdgeproofError


@pytest.mark.slow
def test_main__both_on_the_same_file():
    pytest.importorskip("openvino")
    record = main(["--quick", "--model", "test_resnet", "--image-size", "32"])
    assert set(record["latencies_ms"]) == {OURS, THEIRS}
    assert record["latencies_ms"][THEIRS]["n"] == 2
    assert record["ratios"][f"{OURS} / {THEIRS}"]["rounds"] == 2


def test_reported__a_program_that_reports_nothing(tmp_path: Path):
    with pytest.raises(EdgeproofError, match="benchmark_app gives no median"):
        reported(Path(sys.executable), tmp_path / "none.onnx", 32, 1, 1)
