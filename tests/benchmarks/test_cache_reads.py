from __future__ import annotations

from pathlib import Path

import numpy as np

from edgeproof_benchmarks.cache_reads import bytes_in, filled_cache, main, npy_files


def test_main__measures_reads_opening_and_bytes(tmp_path: Path):
    record = main(["--quick", "--folder", str(tmp_path)])
    assert set(record["latencies_ms"]) == {"one .npy an image", "cache", "open a cache of 400 rows"}
    assert record["ratios"]["files / cache"]["rounds"] == 2
    assert record["figures"]["file bytes"] == 200 * (128 + 16 * 4)
    assert not list(tmp_path.iterdir())


def test_stores__hold_the_same_embeddings(tmp_path: Path):
    cache = filled_cache(tmp_path / "cache", 50, 16)
    files = npy_files(tmp_path / "files", 50, 16)
    expected = np.stack([np.load(file) for file in files])
    np.testing.assert_allclose(cache.rows(np.arange(50), raw=True), expected, rtol=2e-3, atol=2e-3)


def test_bytes_in__counts_every_file(tmp_path: Path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_bytes(b"123")
    (tmp_path / "y").write_bytes(b"45")
    assert bytes_in(tmp_path) == 5
