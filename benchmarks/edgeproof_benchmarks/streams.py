"""Several streams at once: what a machine gives when more than one client asks, and what each of them waits.

Every stream is a thread with a session of its own, which sends its next batch on completion of the last.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from edgeproof_benchmarks.latency import Clock, Latency, summarise

WARM_UP_RUNS = 2


class Session(Protocol):
    """A session of any engine."""

    def run(self, inputs: Mapping[str, np.ndarray], /) -> dict[str, np.ndarray]:
        """Return the outputs by name."""
        ...

    def close(self) -> None:
        """Free the model."""
        ...


@dataclass(frozen=True)
class Throughput:
    """What so many streams reached.

    Attributes:
        streams: how many there were.
        batch: images in each call.
        seconds: from the first call to the end of the last.
        images_per_second: of all streams together.
        latency: of the calls of all streams.
    """

    streams: int
    batch: int
    seconds: float
    images_per_second: float
    latency: Latency

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "batch": self.batch,
            "seconds": round(self.seconds, 4),
            "images_per_second": round(self.images_per_second, 2),
            "latency_ms": self.latency.to_dict(),
        }


def sweep(
    open_session: Callable[[], Session],
    inputs: Mapping[str, np.ndarray],
    counts: Sequence[int],
    *,
    seconds: float,
    clock: Clock = time.perf_counter,
) -> dict[int, Throughput]:
    """Measure each number of streams, the smallest first.

    Args:
        open_session: gives a session for one stream.
        inputs: of every call; the first axis is the batch.
        counts: how many streams to try.
        seconds: for how long each.
        clock: seconds, monotonic.
    """
    sessions: list[Session] = []
    found = {}
    try:
        for count in sorted(set(counts)):
            sessions += [open_session() for _ in range(count - len(sessions))]
            for session in sessions[:count]:
                for _ in range(WARM_UP_RUNS):
                    session.run(inputs)
            found[count] = together(sessions[:count], inputs, seconds, clock)
    finally:
        for session in sessions:
            session.close()
    return found


def together(
    sessions: Sequence[Session],
    inputs: Mapping[str, np.ndarray],
    seconds: float,
    clock: Clock = time.perf_counter,
) -> Throughput:
    """Run all sessions for `seconds`, each in its thread; an error in one of them is raised here."""
    times: list[list[float]] = [[] for _ in sessions]
    errors: list[Exception] = []
    barrier = threading.Barrier(len(sessions) + 1)

    def stream(session: Session, own: list[float]) -> None:
        barrier.wait()
        end = clock() + seconds
        try:
            while True:
                before = clock()
                session.run(inputs)
                after = clock()
                own.append(1000 * (after - before))
                if after >= end:
                    return
        except Exception as error:
            errors.append(error)

    threads = [
        threading.Thread(target=stream, args=pair, daemon=True) for pair in zip(sessions, times, strict=True)
    ]
    for thread in threads:
        thread.start()
    barrier.wait()
    began = clock()
    for thread in threads:
        thread.join()
    elapsed = clock() - began
    if errors:
        raise errors[0]
    trace_ms = np.concatenate([np.array(own) for own in times])
    batch = len(next(iter(inputs.values())))
    rate = len(trace_ms) * batch / elapsed
    return Throughput(len(sessions), batch, elapsed, rate, summarise(trace_ms, elapsed))
