from __future__ import annotations

from edgeproof_benchmarks.help_time import main


def test_main__starts_both_programs():
    record = main(["--quick"])
    assert {name: found["n"] >= 2 for name, found in record["latencies_ms"].items()} == {
        "edgeproof --help": True,
        "python -c pass": True,
    }
    assert record["ratios"]["help / bare Python"]["rounds"] == 2
