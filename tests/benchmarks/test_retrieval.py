from __future__ import annotations

import json
from pathlib import Path

from edgeproof_benchmarks.retrieval import QUICK, main


def test_main__metrics_searches_and_an_ablation_are_timed(tmp_path: Path) -> None:
    out = tmp_path / "retrieval.json"
    record = main(["--quick", "--out", str(out)])
    assert json.loads(out.read_text()) == record
    timed, found = record["latencies_ms"], record["figures"]
    size = f"{QUICK.queries} x {QUICK.gallery}"
    for name in (f"metrics standard, {size}", f"metrics osmn40, {size}", f"{QUICK.k} nearest, exact"):
        assert timed[name]["p50"] > 0
        assert timed[name]["n"] == 2
    assert found[f"recall of {QUICK.k} nearest, faiss flat"] > 0.99
    assert 0.5 < found[f"recall of {QUICK.k} nearest, faiss graph"] <= 1
    assert 1 / QUICK.classes < found["standard map"] < 1
    assert record["ratios"]["each view once / anew"]["median"] > 0
    assert record["settings"]["shown"] == [1, 2, 4]
