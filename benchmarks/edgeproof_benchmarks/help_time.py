"""Wall time of `edgeproof --help`, beside that of a Python that does nothing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

from edgeproof_benchmarks.latency import interleave, ratio
from edgeproof_benchmarks.record import keep, parser, timing_of


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Start both in turns, print and keep the figures."""
    options = parser("help_time", __doc__, seconds=15.0).parse_args(arguments)
    calls = {
        "edgeproof --help": started("-m", "edgeproof", "--help"),
        "python -c pass": started("-c", "pass"),
    }
    found = interleave(calls, **timing_of(options).keywords())
    return keep(
        options,
        "help_time",
        arguments,
        settings={"page cache": "warm", "bytecode": "compiled"},
        latencies=found,
        ratios={"help / bare Python": ratio(found["edgeproof --help"], found["python -c pass"])},
    )


def started(*words: str) -> Callable[[], None]:
    """Return a call that runs this Python with some arguments, to its end."""

    def run() -> None:
        subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL)

    return run


if __name__ == "__main__":
    main()
