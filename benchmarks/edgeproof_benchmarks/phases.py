"""Where the time of one image goes: decode, preprocess, compute, head; and what the result says of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import cycle, pairwise
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from edgeproof_benchmarks.latency import Clock, Latency, sample, summarise, warm_up
from edgeproof_deploy.runtime.preprocess import Preprocess, open_image

PHASES = ("decode", "preprocess", "compute", "head")


class Runs(Protocol):
    """A session of any engine."""

    def run(self, inputs: dict[str, np.ndarray], /) -> dict[str, np.ndarray]:
        """Return the outputs by name."""
        ...


def measure_phases(
    files: Sequence[Path],
    *,
    preprocess: Preprocess,
    session: Runs,
    head: Callable[[np.ndarray], Any],
    seconds: float,
    warmup_seconds: float,
    clock: Clock = time.perf_counter,
) -> dict[str, Latency]:
    """Time each phase from a file to its labels, one image at a time, over the files in turn.

    Args:
        files: real images.
        preprocess: from a decoded image to the network's input.
        session: takes `image` (1, 3, H, W), gives `embedding` (1, D).
        head: from an embedding to labels.
        seconds: for how long.
        warmup_seconds: as in `latency.measure`.
        clock: seconds, monotonic.

    Returns:
        `decode`, `preprocess`, `compute`, `head` and `total`.
    """
    if not files:
        raise ValueError("phases need at least one image file")
    turn = cycle(files)
    samples: list[tuple[float, ...]] = []

    def one_image() -> None:
        times = [clock()]
        image = open_image(next(turn))
        times.append(clock())
        pixels = preprocess(image)[None]
        times.append(clock())
        embedding = session.run({"image": pixels})["embedding"]
        times.append(clock())
        head(embedding)
        times.append(clock())
        samples.append(tuple(1000 * (after - before) for before, after in pairwise(times)))

    stable = warm_up(one_image, warmup_seconds, clock)
    samples.clear()
    sample(one_image, seconds, clock)
    table = np.array(samples)
    columns = {name: table[:, index] for index, name in enumerate(PHASES)} | {"total": table.sum(axis=1)}
    return {
        name: summarise(trace, float(trace.sum()) / 1000, stable=stable) for name, trace in columns.items()
    }


def images_per_second(latency: Latency, batch: int) -> float:
    """Return the rate over the whole measurement: all images by all of their time."""
    return latency.n * batch / latency.seconds


def form_figures(
    batches: dict[int, Latency], phases: dict[str, Latency], threads: int | None
) -> dict[str, Any]:
    """Return the keys of a row of `result.json` that a benchmark fills.

    Those are `latency_ms` and `images_per_second` by batch, `phases_ms` (p50) and `threads`.
    """
    return {
        "latency_ms": {f"batch{batch}": latency.to_dict() for batch, latency in batches.items()},
        "images_per_second": {
            f"batch{batch}": round(images_per_second(latency, batch), 2) for batch, latency in batches.items()
        },
        "phases_ms": {name: round(phases[name].p50, 4) for name in PHASES if name in phases},
        "threads": threads,
    }
