"""Peak memory of a session, measured in a process of its own.

The figure is the high-water mark of the resident set after some runs, less the mark after the imports: what
loading and running the model adds. On Linux it is `VmHWM` of /proc, which a new program starts afresh; on
other systems it is `getrusage`.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from edgeproof_configs.errors import EdgeproofError

RUNS = 5


def high_water_bytes() -> int:
    """Return the largest resident set that this process has had."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def peak_memory(model: Path, shape: Sequence[int], threads: int | None = None, runs: int = RUNS) -> int:
    """Return the bytes that loading an ONNX file and running it takes in ONNX Runtime, at their peak.

    Args:
        model: the file.
        shape: of the input `image`, (B, 3, H, W).
        threads: as for the session; None leaves the choice to ONNX Runtime.
        runs: how often to run it.

    Raises:
        EdgeproofError: the process that measures failed.
    """
    command = [sys.executable, "-m", "edgeproof_benchmarks.memory", str(model), "--runs", str(runs)]
    command += ["--shape", *map(str, shape), *(["--threads", str(threads)] if threads else [])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise EdgeproofError(f"peak memory could not be measured: {last}", where=model)
    return json.loads(done.stdout)["added_bytes"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Load a model, run it, print what that added."""
    parser = argparse.ArgumentParser(prog="python -m edgeproof_benchmarks.memory", description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--shape", type=int, nargs=4, required=True, metavar=("B", "C", "H", "W"))
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--threads", type=int)
    options = parser.parse_args(arguments)

    import numpy as np

    from edgeproof_deploy.runtime.session import OnnxSession, import_onnxruntime

    import_onnxruntime()
    image = np.zeros(options.shape, dtype=np.float32)
    before = high_water_bytes()
    session = OnnxSession(options.model, threads=options.threads)
    for _ in range(options.runs):
        session.run({"image": image})
    after = high_water_bytes()
    print(json.dumps({"before_bytes": before, "after_bytes": after, "added_bytes": after - before}))


if __name__ == "__main__":
    main()
