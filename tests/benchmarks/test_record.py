from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edgeproof_benchmarks.latency import Latency, Ratio, summarise
from edgeproof_benchmarks.record import command_line, keep, parser, table, timing_of


@pytest.fixture
def latency() -> Latency:
    return summarise(np.arange(1.0, 21.0), 0.21)


def test_keep__writes_machine_command_and_n(
    tmp_path: Path, latency: Latency, capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / "results" / "reads.json"
    arguments = ["--out", str(out), "--seconds", "3"]
    options = parser("reads", "Reads.", seconds=9.0).parse_args(arguments)
    keep(
        options,
        "reads",
        arguments,
        settings={"rows": 7},
        latencies={"a": latency},
        ratios={"a / b": Ratio(2.0, 1.9, 2.1, 10, (1.95, 2.05), 0.98, 400)},
        figures={"bytes": 12},
    )
    record = json.loads(out.read_text())
    assert record["command"] == "python -m edgeproof_benchmarks.reads --out …/reads.json --seconds 3"
    assert record["latencies_ms"]["a"]["n"] == 20
    found = record["ratios"]["a / b"]
    assert (found["median"], found["low"], found["high"], found["rounds"]) == (2.0, 1.9, 2.1, 10)
    assert (found["interval"], found["confidence"], found["n"]) == ([1.95, 2.05], 0.98, 400)
    assert record["environment"]["cores"]
    assert record["quick"] is False
    assert "a / b: 2.00" in capsys.readouterr().out


def test_timing_of__quick_and_given():
    made = parser("reads", "Reads.", seconds=9.0)
    assert timing_of(made.parse_args(["--quick"])).seconds < 0.1
    given = timing_of(made.parse_args(["--seconds", "5"]))
    assert (given.seconds, given.warmup_seconds, given.rounds) == (5.0, 1.0, 10)


def test_command_line__keeps_no_path_of_a_machine():
    assert command_line("x", ["/home/me/bundle", "--threads", "2"]).endswith(" …/bundle --threads 2")


def test_table__columns_are_aligned_and_small_n_is_said(latency: Latency):
    lines = table({"short": latency, "a longer name": summarise(np.ones(3), 0.003)}, {}, {}).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert "n too small" in lines[2]
