"""Where the time of an image, or an object, goes: decode, preprocess, copy in, compute, copy out, head.

The copies are those that the session tells of (`Session.phases`); where it tells of none, as on a CPU, there
are none, and `compute` is all of `run`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from itertools import cycle, pairwise
from pathlib import Path
from typing import Any

import numpy as np

from edgeproof_benchmarks.latency import Clock, Latency, sample, summarise, warm_up
from edgeproof_deploy.runtime.preprocess import Preprocess, open_image
from edgeproof_deploy.runtime.session import Session

Photo = Path | bytes
PHASES = ("decode", "preprocess", "copy_in", "compute", "copy_out", "head")
COPIES = ("copy_in", "copy_out")


def measure_phases(
    files: Sequence[Photo | Sequence[Photo]],
    *,
    preprocess: Preprocess,
    session: Session,
    head: Callable[[np.ndarray], Any],
    seconds: float,
    warmup_seconds: float,
    clock: Clock = time.perf_counter,
) -> dict[str, Latency]:
    """Time each phase from a file to its labels, one image at a time, over the files in turn.

    Args:
        files: real images, as paths or as the bytes of files; or objects, each the files of its views.
        preprocess: from a decoded image to the network's input.
        session: takes `image` (1, 3, H, W), or `views` (1, V, 3, H, W), gives `embedding` (1, D).
        head: from an embedding to labels.
        seconds: for how long.
        warmup_seconds: as in `latency.measure`.
        clock: seconds, monotonic.

    Returns:
        those of `PHASES` that there are, and `total`, their sum.
    """
    if not files:
        raise ValueError("phases need at least one image file")
    turn = cycle(files)
    samples: list[dict[str, float]] = []
    name = session.input_name

    def one_image() -> None:
        times = [clock()]
        photo = next(turn)
        images = [open_image(one) for one in ([photo] if isinstance(photo, Path | bytes) else photo)]
        times.append(clock())
        views = [preprocess(image) for image in images]
        pixels = np.stack(views)[None] if name == "views" else views[0][None]
        times.append(clock())
        embedding = session.run({name: pixels})["embedding"]
        times.append(clock())
        head(embedding)
        times.append(clock())
        decode, prepare, run, answer = (1000 * (after - before) for before, after in pairwise(times))
        samples.append(
            {"decode": decode, "preprocess": prepare, **parts_of(run, session.phases), "head": answer}
        )

    stable = warm_up(one_image, warmup_seconds, clock)
    samples.clear()
    sample(one_image, seconds, clock)
    columns = {
        name: np.array([one[name] for one in samples])
        for name in PHASES
        if all(name in one for one in samples)
    }
    columns["total"] = np.sum(list(columns.values()), axis=0)
    return {
        name: summarise(trace, float(trace.sum()) / 1000, stable=stable) for name, trace in columns.items()
    }


def parts_of(run_ms: float, told: Mapping[str, float] | None) -> dict[str, float]:
    """Return the parts of a session's run: its copies as it tells of them, and `compute`, the rest.

    What is started from Python counts as `compute`, so that the parts add up to the whole.
    """
    copies = {name: told[name] for name in COPIES if name in told} if told else {}
    return {**copies, "compute": run_ms - sum(copies.values())}


def images_per_second(latency: Latency, batch: int) -> float:
    """Return the rate over the whole measurement: all images by all of their time."""
    return latency.n * batch / latency.seconds


def form_figures(
    batches: dict[int, Latency], phases: dict[str, Latency], threads: int | None
) -> dict[str, Any]:
    """Return the keys of a row of `result.json` that a benchmark fills.

    Those are `latency_ms`, `images_per_second` and, where it was read, `millijoules` an image by batch,
    `phases_ms` (p50) and `threads`.
    """
    energy = {
        f"batch{batch}": round(latency.millijoules / batch, 4)
        for batch, latency in batches.items()
        if latency.millijoules is not None
    }
    return {
        "latency_ms": {f"batch{batch}": latency.to_dict() for batch, latency in batches.items()},
        "images_per_second": {
            f"batch{batch}": round(images_per_second(latency, batch), 2) for batch, latency in batches.items()
        },
        "phases_ms": {name: round(phases[name].p50, 4) for name in PHASES if name in phases},
        "threads": threads,
        **({"millijoules": energy} if energy else {}),
    }
