"""Running recipes through the command line for a benchmark, and what several seeds of one come to."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def run_recipe(
    command: str,
    recipe: str,
    run: Path,
    settings: Sequence[str],
    *,
    threads: int | None,
    extra: Sequence[str] = (),
) -> None:
    """Run a command of edgeproof on a recipe, in a process of its own.

    Args:
        command: such as `train` or `verify`.
        recipe: a file or the name of a shipped one.
        run: the run directory.
        settings: `key=value`, each for a `--set`.
        threads: of the process; None leaves the choice to torch.
        extra: further words of the command line.

    Raises:
        RuntimeError: the command failed; the end of what it said is told.
    """
    sets = [word for setting in settings for word in ("--set", setting)]
    line = [sys.executable, "-m", "edgeproof", command, recipe, "--run", str(run), *extra, *sets]
    limit = {} if threads is None else {"OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(line, env={**os.environ, **limit}, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{recipe}: exit code {done.returncode}\n{done.stderr[-2000:]}")
    print(done.stdout.splitlines()[-2] if done.stdout.count("\n") > 1 else done.stdout, flush=True)


def over_seeds(values: Sequence[float]) -> dict[str, Any]:
    """Return mean, sample deviation (0 of a single value) and the values themselves."""
    kept = [round(value, 5) for value in values]
    deviation = statistics.stdev(kept) if len(kept) > 1 else 0.0
    return {"mean": round(statistics.fmean(kept), 5), "std": round(deviation, 5), "values": kept}


def points(found: dict[str, Any]) -> str:
    """Return `92.84 ± 0.21`, in percent, of what `over_seeds` gave."""
    return f"{100 * found['mean']:.2f} ± {100 * found['std']:.2f}"
