from __future__ import annotations

from importlib.util import find_spec

from edgeproof_benchmarks.shard_reading import LIBRARY, STREAM, main


def test_main__reads_the_same_bytes_in_all_ways():
    record = main(["--quick"])
    ways = 4 if find_spec("webdataset") else 3
    assert len(record["latencies_ms"]) == ways
    assert len(record["ratios"]) == ways - 1
    assert record["settings"]["images"] == 12
    assert record["settings"]["shards"] == 3
    assert STREAM in record["latencies_ms"]
    assert (LIBRARY in record["latencies_ms"]) == (ways == 4)
