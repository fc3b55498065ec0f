"""OpenVINO through our session against OpenVINO's own `benchmark_app`, on the same file, in turns.

`benchmark_app` (package openvino) is started anew in each round and reports the median of its calls. It
leaves filling the input out of its time, which ours has to include, as it has to hand the output back.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgeproof_benchmarks.latency import Latency, median, ratio, sample, summarise, warm_up
from edgeproof_benchmarks.machine.conditions import Watch
from edgeproof_benchmarks.peer_student import make_student
from edgeproof_benchmarks.record import keep, parser
from edgeproof_configs.errors import EdgeproofError, MissingPackageError
from edgeproof_deploy.export import export_onnx

OURS, THEIRS = "edgeproof, OpenVINO", "benchmark_app"
MEDIAN = re.compile(r"Median:\s+([0-9.]+) (us|ms)")
"""Below a millisecond it is told in microseconds."""


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Export a student, run it in both ways in turns, print and keep the figures."""
    options_parser = parser("openvino_peers", __doc__)
    options_parser.add_argument("--model", default="resnet18", help="timm's name")
    options_parser.add_argument("--image-size", type=int, default=224)
    options_parser.add_argument("--threads", type=int, default=1)
    options_parser.add_argument("--seconds", type=int, default=3, help="for each of both in a round")
    options_parser.add_argument("--rounds", type=int, default=9)
    options = options_parser.parse_args(arguments)
    if options.quick:
        options.seconds, options.rounds = 1, 2
    program = Path(sys.executable).with_name("benchmark_app")
    if not program.exists():
        raise MissingPackageError("benchmark_app is not installed", fix="pip install openvino")
    side = options.image_size
    with tempfile.TemporaryDirectory() as place:
        file = Path(place) / "model.onnx"
        export_onnx(make_student(options.model, side), file)
        watch = Watch()
        times = in_turns(program, file, side, options.threads, options.seconds, options.rounds)
        conditions = watch.end(times)
    return keep(
        options,
        "openvino_peers",
        arguments,
        settings={"model": options.model, "image_size": side, "threads": options.threads},
        latencies=times,
        ratios={f"{OURS} / {THEIRS}": ratio(times[OURS], times[THEIRS])},
        figures={"note": "a sample of benchmark_app is the median of one round"},
        conditions=conditions,
    )


def in_turns(
    program: Path, file: Path, side: int, threads: int, seconds: int, rounds: int
) -> dict[str, Latency]:
    """Run both in turns; of `benchmark_app` each round is one sample, the median that it reports."""
    from edgeproof_deploy.runtime.openvino_session import OpenVinoSession

    session = OpenVinoSession(file.read_bytes(), threads=threads)
    pixels = np.random.default_rng(0).standard_normal((1, 3, side, side), dtype=np.float32)

    def ours() -> None:
        session.run({"image": pixels})

    warm_up(ours, seconds / 4)
    samples: list[list[float]] = []
    medians: list[float] = []
    for _ in range(rounds):
        samples.append(sample(ours, seconds))
        medians.append(reported(program, file, side, threads, seconds))
    session.close()
    own = np.concatenate([np.array(one) for one in samples])
    return {
        OURS: summarise(own, own.sum() / 1000, rounds=tuple(median(np.array(one)) for one in samples)),
        THEIRS: summarise(np.array(medians), seconds * rounds, rounds=tuple(medians)),
    }


def reported(program: Path, file: Path, side: int, threads: int, seconds: int) -> float:
    """Return the median latency in milliseconds that `benchmark_app` reports.

    Raises:
        EdgeproofError: it failed, or reports none.
    """
    command = [program, "-m", file, "-d", "CPU", "-api", "sync", "-hint", "none", "-t", seconds]
    command += [
        "-nstreams",
        1,
        "-nthreads",
        threads,
        "-infer_precision",
        "f32",
        "-shape",
        f"[1,3,{side},{side}]",
    ]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    found = MEDIAN.search(done.stdout)
    if done.returncode or found is None:
        said = (done.stderr.strip() or done.stdout.strip() or "nothing").splitlines()[-1]
        raise EdgeproofError(f"benchmark_app gives no median: {said}", where=program)
    return float(found[1]) / (1000 if found[2] == "us" else 1)


if __name__ == "__main__":
    main()
