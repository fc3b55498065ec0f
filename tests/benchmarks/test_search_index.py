from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeproof_benchmarks.search_index import main, with_twins

pytest.importorskip("faiss")


def test_main__measures_building_searching_and_twins(tmp_path: Path):
    record = main(["--quick", "--folder", str(tmp_path)])
    figures = record["figures"]
    assert set(record["latencies_ms"]) == {"one query, 10 nearest"}
    assert figures["recall@10"] > 0.5
    assert figures["recall@10 told by the index, of rows as queries"] >= 0.95
    assert figures["twins: groups found"] == figures["twins: groups planted"] == 54
    assert figures["index bytes"] > 2_000 * 32
    assert not list(tmp_path.iterdir())


def test_with_twins__are_alike_and_others_are_not():
    rows, planted = with_twins(220, 64)
    wide = rows.astype(np.float32)
    near = np.triu(wide @ wide.T, 1) > 0.95
    assert (len(rows), planted, near.sum()) == (220, 20, 20)
