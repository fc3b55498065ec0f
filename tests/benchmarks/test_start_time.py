from __future__ import annotations

from pathlib import Path

from tests.configs.small_bundle import make_bundle

from edgeproof_benchmarks.start_time import PARTS, inside_of, main


def test_main__starts_each_program_and_reads_what_it_prints(tmp_path: Path, image_files: list[Path]):
    record = main([str(make_bundle(tmp_path)), str(image_files[0]), "--quick"])
    found = record["latencies_ms"]
    assert {f"inside: {name}" for name in (*PARTS, "import of the runtime")} <= set(found)
    assert found["cold start to first prediction"]["n"] == 2
    assert found["inside: import of the runtime"]["n"] == 2
    inside = sum(found[f"inside: {name}"]["mean"] for name in PARTS)
    assert inside < found["cold start to first prediction"]["mean"]
    assert found["edgeproof predict"]["n"] == 2


def test_inside_of__the_first_run_does_not_count():
    found = inside_of([[9.0, 1.0], [0.1, 0.2], [0.3, 0.2]], 0)
    assert (found.n, found.min, found.max) == (2, 100.0, 300.0)
