from __future__ import annotations

import json
from pathlib import Path

from edgeproof_benchmarks.head_speed import BATCH, FITTED, main


def test_main__fits_and_answers_are_timed(tmp_path: Path):
    out = tmp_path / "head_speed.json"
    record = main(["--quick", "--out", str(out)])
    assert json.loads(out.read_text()) == record
    timed = record["latencies_ms"]
    for kind in FITTED:
        assert timed[f"fit {kind}, with val"]["p50"] > 0
        assert timed[f"fit {kind}, without val"]["n"] == 1
    per_image = record["figures"]["microseconds_an_image"]
    assert set(per_image) == {
        f"{kind} ({form}), batch {count}"
        for kind, form in (
            ("zero_shot", "ZeroShotHead"),
            ("lp_plus_plus", "LinearHead"),
            ("gda", "LinearHead"),
            ("tip_adapter", "CacheHead"),
            ("proker", "CacheHead"),
        )
        for count in (1, BATCH)
    }
    batch = timed[f"answer gda (LinearHead), batch {BATCH}"]["p50"]
    assert per_image[f"gda (LinearHead), batch {BATCH}"] == round(1000 * batch / BATCH, 2)
    assert record["figures"]["inmap agrees with 300 plain steps, %"] > 90
    assert record["ratios"]["inmap / 300 plain steps"]["rounds"] == 1
    assert set(record["conditions"]["reasons"])
