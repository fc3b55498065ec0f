"""What every benchmark prints and keeps: a short table, and JSON with the machine, the command and n."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from edgeproof_benchmarks.formats import significant
from edgeproof_benchmarks.latency import Latency, Ratio
from edgeproof_benchmarks.machine.conditions import stamp
from edgeproof_configs.files import write_json
from edgeproof_configs.run import environment

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Timing:
    """How long to measure: `seconds` for each call over all rounds, after `warmup_seconds`."""

    seconds: float
    warmup_seconds: float
    rounds: int

    def keywords(self) -> dict[str, Any]:
        """Return the arguments of `interleave`."""
        return {"seconds": self.seconds, "warmup_seconds": self.warmup_seconds, "rounds": self.rounds}


QUICK = Timing(0.06, 0.02, 2)
"""Enough to see that a benchmark runs; its figures mean nothing."""


def parser(module: str, description: str | None, *, seconds: float | None = None) -> argparse.ArgumentParser:
    """Return a parser with what benchmarks have: `--out`, `--quick` and, where they have it, `--seconds`.

    Args:
        module: name under `edgeproof_benchmarks`.
        description: what is measured; the first line is shown.
        seconds: default of `--seconds`; None where rounds are counted and not timed.
    """
    first = (description or "").splitlines()[0]
    made = argparse.ArgumentParser(prog=f"python -m edgeproof_benchmarks.{module}", description=first)
    made.add_argument("--out", type=Path, help="JSON file to write, such as results/NAME.json")
    made.add_argument("--quick", action="store_true", help="see that it runs; the figures mean nothing")
    if seconds is not None:
        made.add_argument(
            "--seconds", type=float, default=seconds, help="time for each call, over all rounds"
        )
    return made


def timing_of(options: argparse.Namespace) -> Timing:
    """Return how long to measure, by the options."""
    return QUICK if options.quick else Timing(options.seconds, min(options.seconds / 5, 2.0), 10)


def command_line(module: str, arguments: Sequence[str] | None) -> str:
    """Return the command as it can be run elsewhere: of an absolute path only the name is kept."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    shown = [f"…/{Path(word).name}" if os.path.isabs(word) else word for word in given]
    return shlex.join(["python", "-m", f"edgeproof_benchmarks.{module}"]) + "".join(
        f" {word}" for word in shown
    )


def keep(
    options: argparse.Namespace,
    module: str,
    arguments: Sequence[str] | None,
    *,
    settings: Mapping[str, Any],
    latencies: Mapping[str, Latency],
    ratios: Mapping[str, Ratio],
    figures: Mapping[str, Any] | None = None,
    conditions: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Print a table and write the record where `--out` says; return the record.

    Args:
        options: as parsed.
        module: name under `edgeproof_benchmarks`.
        arguments: the command line, None for that of the process.
        settings: what was measured: sizes, batch, threads.
        latencies: by name, measured in alternating rounds.
        ratios: by name, of two of them.
        figures: other figures, such as bytes.
        conditions: the machine before and after, as `machine.conditions` tells it.
    """
    record = {
        "schema_version": SCHEMA_VERSION,
        "benchmark": module,
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        "command": command_line(module, arguments),
        "quick": bool(options.quick),
        "environment": environment(),
        **({"conditions": dict(conditions)} if conditions else {}),
        "settings": dict(settings),
        "latencies_ms": {name: latency.to_dict() for name, latency in latencies.items()},
        "ratios": {name: ratio.to_dict() for name, ratio in ratios.items()},
        "figures": dict(figures or {}),
    }
    print(table(latencies, ratios, figures or {}))
    if conditions:
        print(stamp(conditions))
    if options.out:
        write_json(options.out, record)
        print(f"written: {options.out}")
    return record


def table(latencies: Mapping[str, Latency], ratios: Mapping[str, Ratio], figures: Mapping[str, Any]) -> str:
    """Return the figures as lines of text with aligned columns."""
    rows = [["", "p50 ms", "p90 ms", "n"]]
    for name, found in latencies.items():
        p90 = "n too small" if found.p90 is None else significant(found.p90)
        rows.append([name, significant(found.p50), p90, str(found.n)])
    lines = [*table_of(rows), *(ratio_line(name, one) for name, one in ratios.items())]
    return "\n".join([*lines, *(f"{name}: {value}" for name, value in figures.items())])


def table_of(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return lines with aligned columns: the first to the left, the others to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]


def ratio_line(name: str, one: Ratio) -> str:
    """Return `a / b: 1.02 (95 % interval 1.01 to 1.03; 0.98 to 1.10 in 10 rounds)`."""
    low, high = one.interval
    within = f"{100 * one.confidence:.0f} % interval {significant(low)} to {significant(high)}"
    spread = f"{significant(one.low)} to {significant(one.high)} in {one.rounds} rounds"
    return f"{name}: {significant(one.median)} ({within}; {spread})"


def milliseconds(value: float | None) -> str:
    """Return a time for a table, or what stands where there were too few samples."""
    return "n too small" if value is None else significant(value)
