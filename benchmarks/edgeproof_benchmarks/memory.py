"""Peak memory of a session, measured in a process of its own.

The figure is the high-water mark of the resident set after some runs, less the mark after the imports: what
loading and running the model adds. On Linux it is `VmHWM` of /proc, which a new program starts afresh; on
other systems it is `getrusage`. What the process then holds on a GPU is asked of NVML, where that answers; on
a Jetson both are parts of one memory.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeproof_benchmarks.machine.nvidia import load_nvml
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


@dataclass(frozen=True)
class Memory:
    """Bytes that a model takes: of the host, at their peak, and of the GPU; None where that was not told."""

    host_bytes: int
    gpu_bytes: int | None = None

    def figures(self) -> dict[str, int]:
        """Return the keys of a row of `result.json`."""
        gpu = {} if self.gpu_bytes is None else {"gpu_memory_bytes": self.gpu_bytes}
        return {"memory_bytes": self.host_bytes, **gpu}


def peak_memory(
    model: Path,
    shape: Sequence[int],
    threads: int | None = None,
    runs: int = RUNS,
    engine: str = "onnxruntime",
    in_bundle: str | None = None,
) -> Memory:
    """Return what loading a model and running it takes.

    Args:
        model: the file that the engine opens, or a bundle.
        shape: of the input, (B, 3, H, W) of images, (B, V, 3, H, W) of objects.
        threads: as for the session; None leaves the choice to the engine.
        runs: how often to run it.
        engine: what runs it.
        in_bundle: the ONNX file of the bundle that is meant.

    Raises:
        EdgeproofError: the process that measures failed.
    """
    command = [sys.executable, "-m", "edgeproof_benchmarks.memory", str(model), "--runs", str(runs)]
    command += ["--shape", *map(str, shape), "--engine", engine]
    command += ["--threads", str(threads)] if threads else []
    command += ["--in-bundle", in_bundle] if in_bundle else []
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise EdgeproofError(f"peak memory could not be measured: {last}", where=model)
    told = json.loads(done.stdout)
    return Memory(told["added_bytes"], told["gpu_bytes"])


def gpu_bytes(nvml: Any, process: int) -> int | None:
    """Return what a process holds on all GPUs, or None where NVML does not tell (as inside a container)."""
    if isinstance(nvml, str):
        return None
    found = []
    for index in range(nvml.nvmlDeviceGetCount()):
        try:
            running = nvml.nvmlDeviceGetComputeRunningProcesses(nvml.nvmlDeviceGetHandleByIndex(index))
        except nvml.NVMLError:
            continue
        found += [one.usedGpuMemory for one in running if one.pid == process]
    known = [value for value in found if value is not None]
    return sum(known) if known else None


def main(arguments: Sequence[str] | None = None) -> None:
    """Load a model, run it, print what that added."""
    parser = argparse.ArgumentParser(prog="python -m edgeproof_benchmarks.memory", description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--shape", type=int, nargs="+", required=True, metavar="N")
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--engine", default="onnxruntime")
    parser.add_argument("--in-bundle", metavar="NAME")
    options = parser.parse_args(arguments)

    import numpy as np

    from edgeproof_deploy.engine import make_engine
    from edgeproof_deploy.runtime.bundle import Bundle
    from edgeproof_deploy.runtime.errors import BundleError, UnavailableError
    from edgeproof_deploy.runtime.session import import_onnxruntime, open_engine

    import_onnxruntime()
    image = np.zeros(options.shape, dtype=np.float32)
    # ONNX Runtime is loaded already, and no part of the model. The libraries of other engines are loaded with
    # their first model, and counted with it.
    before = high_water_bytes()
    try:
        if options.in_bundle:
            bundle = Bundle(options.model)
            session = open_engine(bundle, options.engine, options.threads, model=options.in_bundle)
        else:
            session = make_engine(options.engine).open(options.model, options.threads)
    except EdgeproofError as error:
        sys.exit(error.what)
    except (BundleError, UnavailableError) as error:
        sys.exit(str(error))
    for _ in range(options.runs):
        session.run({session.input_name: image})
    after = high_water_bytes()
    told = {"before_bytes": before, "after_bytes": after, "added_bytes": after - before}
    print(json.dumps(told | {"gpu_bytes": gpu_bytes(load_nvml(), os.getpid())}))


if __name__ == "__main__":
    main()
