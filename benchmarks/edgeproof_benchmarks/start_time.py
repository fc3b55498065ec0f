"""How long the device waits: import of the runtime, a bundle's first prediction, and a warm one beside it.

`edgeproof predict`, the command with everything that it prints, runs with the engine's own number of threads.

Every sample is a Python of its own, started and ended, but for what is said to be inside. `-I` keeps the
user's own start-up files out of it; the files of the packages are in the page cache after the first. The
processor's time is told beside the time on the clock, which other work on the machine makes longer.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgeproof_benchmarks.latency import Latency, alternate, ratio, summarise
from edgeproof_benchmarks.machine.conditions import Watch
from edgeproof_benchmarks.record import keep, parser

CLOCKS = """
import sys, time
def now():
    return time.perf_counter(), time.process_time()
def told(*moments):
    print(*(after[clock] - before[clock] for clock in (0, 1) for before, after in zip(moments, moments[1:])))
"""
IMPORT = f"""{CLOCKS}
before = now()
from edgeproof_deploy.runtime.predictor import Predictor
told(before, now())
"""
IMPORT_ALONE = IMPORT.replace("before =", "import numpy, PIL.Image, onnxruntime\nbefore =")
FIRST = f"""{CLOCKS}
before = now()
from edgeproof_deploy.runtime.predictor import Predictor
predictor = Predictor.open(sys.argv[1], threads=int(sys.argv[3]))
opened = now()
predictor.predict([sys.argv[2]])
done = now()
predictor.predict([sys.argv[2]])
told(before, opened, done, now())
"""
PARTS = ("import and open", "first prediction", "second prediction")


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Start each program in turns, print and keep the figures."""
    options_parser = parser("start_time", __doc__)
    options_parser.add_argument("bundle", type=Path, help="a bundle: folder or .tar")
    options_parser.add_argument("image", type=Path, help="an image file")
    options_parser.add_argument("--threads", type=int, default=1)
    options_parser.add_argument("--rounds", type=int, default=30)
    options = options_parser.parse_args(arguments)
    rounds = 2 if options.quick else options.rounds
    inside: dict[str, list[list[float]]] = {"import": [], "import, packages loaded": [], "predict": []}
    command = [str(options.bundle), str(options.image), str(options.threads)]
    calls = {
        "python -c pass": started([], "-c", "pass"),
        "import of the runtime": started(inside["import"], "-c", IMPORT),
        "import, numpy, Pillow and onnxruntime loaded": started(
            inside["import, packages loaded"], "-c", IMPORT_ALONE
        ),
        "cold start to first prediction": started(inside["predict"], "-c", FIRST, *command),
        "edgeproof predict": started(None, "-m", "edgeproof", "predict", *command[:2]),
    }
    watch = Watch()
    times = alternate(calls, rounds)
    conditions = watch.end(times)
    parts = {
        "import of the runtime": ("import", 0, 1),
        "import, packages loaded": ("import, packages loaded", 0, 1),
        **{name: ("predict", place, len(PARTS)) for place, name in enumerate(PARTS)},
    }
    within = {f"inside: {name}": inside_of(inside[kind], place) for name, (kind, place, _) in parts.items()}
    processor = {
        name: round(inside_of(inside[kind], place + count).p50, 2)
        for name, (kind, place, count) in parts.items()
    }
    return keep(
        options,
        "start_time",
        arguments,
        settings={"threads": options.threads, "page cache": "warm", "bytecode": "compiled"},
        latencies=times | within,
        ratios={
            "cold start / bare Python": ratio(
                times["cold start to first prediction"], times["python -c pass"]
            )
        },
        figures={"processor time p50 ms": processor},
        conditions=conditions,
    )


def started(inside: list[list[float]] | None, *words: str) -> Callable[[], None]:
    """Return a call that starts a Python of its own and notes the seconds that it prints, if any.

    Those are, of each part, the seconds on the clock, then of each the seconds of the processor.

    Args:
        inside: where to note them; None: what it prints is something else.
        words: of the command line.
    """

    def run() -> None:
        done = subprocess.run([sys.executable, "-I", *words], check=True, stdout=subprocess.PIPE, text=True)
        if inside is not None and done.stdout:
            inside.append([float(word) for word in done.stdout.split()])

    return run


def inside_of(noted: list[list[float]], place: int) -> Latency:
    """Return the distribution of one of the times that the programs printed; the first run does not count."""
    trace_ms = 1000 * np.array(noted)[1:, place]
    return summarise(trace_ms, float(trace_ms.sum()) / 1000, rounds=tuple(trace_ms.tolist()))


if __name__ == "__main__":
    main()
