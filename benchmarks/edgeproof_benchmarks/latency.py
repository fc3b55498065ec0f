"""Latency: warm-up until the median is stable, every sample kept, percentiles where there are enough samples.

The result of a latency run is p90 at batch 1, the next query on completion of the last (MLPerf inference,
SingleStream). No sample is ever clipped: a slow query is a slow query.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

STABLE_WITHIN = 0.05
MOST_WARMUP_WINDOWS = 10
FEWEST_SAMPLES = 3
ROUNDS = 10

Clock = Callable[[], float]
Call = Callable[[], Any]


@dataclass(frozen=True)
class Latency:
    """The distribution of one call's duration; times in milliseconds unless the name says otherwise.

    A percentile q is given where n (1 - q) >= 1, so that at least one sample lies beyond it: p90 needs 10
    samples, p99 needs 100, p99.9 needs 1,000. Otherwise it is None: n is too small. Percentiles are observed
    values (nearest rank).

    Attributes:
        n: number of samples.
        seconds: time spent measuring.
        warmup_seconds: time spent before that.
        stable: whether the median of the warm-up settled within 5 %.
        rounds_p50: the median of each round, where rounds alternated with those of other calls.
        trace_ms: every sample in order, float64 (n,).
    """

    n: int
    seconds: float
    min: float
    mean: float
    stdev: float
    max: float
    p50: float
    p90: float | None
    p95: float | None
    p99: float | None
    p999: float | None
    warmup_seconds: float = 0.0
    stable: bool = True
    rounds_p50: tuple[float, ...] = ()
    trace_ms: np.ndarray = field(default_factory=lambda: np.empty(0), repr=False, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data without the trace; the medians of the rounds, where there were any, in a list."""
        plain = {key: value for key, value in self.__dict__.items() if key not in ("trace_ms", "rounds_p50")}
        found = {key: round(value, 6) if isinstance(value, float) else value for key, value in plain.items()}
        rounds = [round(value, 6) for value in self.rounds_p50]
        return found | ({"rounds_p50_ms": rounds} if rounds else {})


def percentile(trace_ms: np.ndarray, q: float) -> float | None:
    """Return the nearest-rank percentile, or None where fewer than one sample would lie beyond it."""
    if len(trace_ms) * (1 - q) < 1 - 1e-9:
        return None
    return float(np.quantile(trace_ms, q, method="inverted_cdf"))


def summarise(
    trace_ms: np.ndarray,
    seconds: float,
    *,
    warmup_seconds: float = 0.0,
    stable: bool = True,
    rounds: tuple[float, ...] = (),
) -> Latency:
    """Return the distribution of samples in milliseconds.

    Raises:
        ValueError: there is no sample.
    """
    if not len(trace_ms):
        raise ValueError("no samples to summarise")
    trace_ms = np.asarray(trace_ms, dtype=np.float64)
    return Latency(
        n=len(trace_ms),
        seconds=seconds,
        min=float(trace_ms.min()),
        mean=float(trace_ms.mean()),
        stdev=float(trace_ms.std(ddof=1)) if len(trace_ms) > 1 else 0.0,
        max=float(trace_ms.max()),
        p50=median(trace_ms),
        p90=percentile(trace_ms, 0.9),
        p95=percentile(trace_ms, 0.95),
        p99=percentile(trace_ms, 0.99),
        p999=percentile(trace_ms, 0.999),
        warmup_seconds=warmup_seconds,
        stable=stable,
        rounds_p50=rounds,
        trace_ms=trace_ms,
    )


def median(trace_ms: np.ndarray) -> float:
    """Return the nearest-rank median."""
    return float(np.quantile(trace_ms, 0.5, method="inverted_cdf"))


def sample(
    call: Call, seconds: float, clock: Clock = time.perf_counter, fewest: int = FEWEST_SAMPLES
) -> list[float]:
    """Call again and again for `seconds`, at least `fewest` times; return each duration in milliseconds."""
    durations: list[float] = []
    end = clock() + seconds
    while True:
        began = clock()
        call()
        ended = clock()
        durations.append(1000 * (ended - began))
        if ended >= end and len(durations) >= fewest:
            return durations


def warm_up(call: Call, seconds: float, clock: Clock = time.perf_counter) -> bool:
    """Call for at least `seconds`, then on until the median of a window is within 5 % of the one before it.

    A window is half of `seconds`; after ten of them it stops in any case.

    Returns:
        Whether the median settled.
    """
    before = None
    for _ in range(MOST_WARMUP_WINDOWS):
        now = median(np.array(sample(call, seconds / 2, clock, fewest=1)))
        if before is not None and abs(now - before) <= STABLE_WITHIN * before:
            return True
        before = now
    return False


def measure(
    call: Call, *, seconds: float, warmup_seconds: float, clock: Clock = time.perf_counter
) -> Latency:
    """Measure how long a call takes.

    Args:
        call: what is measured, the next call on completion of the last.
        seconds: for how long.
        warmup_seconds: shortest warm-up; it goes on until the median is stable, at most five times as long.
        clock: seconds, monotonic.
    """
    return interleave({"": call}, seconds=seconds, warmup_seconds=warmup_seconds, rounds=1, clock=clock)[""]


def interleave(
    calls: Mapping[str, Call],
    *,
    seconds: float,
    warmup_seconds: float,
    rounds: int = ROUNDS,
    clock: Clock = time.perf_counter,
) -> dict[str, Latency]:
    """Measure several calls in alternating rounds (A B A B ...), so that a drift of the machine meets all.

    Args:
        calls: what is measured, by name.
        seconds: for how long each of them, over all rounds.
        warmup_seconds: as in `measure`, for each.
        rounds: how often to go round.
        clock: seconds, monotonic.
    """
    began = clock()
    settled = {name: warm_up(call, warmup_seconds, clock) for name, call in calls.items()}
    warmed = clock() - began
    traces: dict[str, list[list[float]]] = {name: [] for name in calls}
    gc.collect()
    for _ in range(rounds):
        for name, call in calls.items():
            traces[name].append(sample(call, seconds / rounds, clock))
    found = {}
    for name, parts in traces.items():
        trace_ms = np.concatenate([np.array(part) for part in parts])
        found[name] = summarise(
            trace_ms,
            float(trace_ms.sum()) / 1000,
            warmup_seconds=warmed / len(calls),
            stable=settled[name],
            rounds=tuple(median(np.array(part)) for part in parts),
        )
    return found


@dataclass(frozen=True)
class Ratio:
    """How many times longer one call takes than another: median over rounds of the ratio of their medians."""

    median: float
    low: float
    high: float
    rounds: int

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            key: round(value, 4) if isinstance(value, float) else value
            for key, value in self.__dict__.items()
        }


def ratio(slower: Latency, faster: Latency) -> Ratio:
    """Compare two calls that were measured in the same alternating rounds.

    Raises:
        ValueError: they have different numbers of rounds.
    """
    if len(slower.rounds_p50) != len(faster.rounds_p50) or not slower.rounds_p50:
        raise ValueError(
            f"expected the same rounds, got {len(slower.rounds_p50)} and {len(faster.rounds_p50)}"
        )
    each = np.array(slower.rounds_p50) / np.array(faster.rounds_p50)
    return Ratio(float(np.median(each)), float(each.min()), float(each.max()), len(each))


def alternate(
    calls: Mapping[str, Call], rounds: int, *, clock: Clock = time.perf_counter
) -> dict[str, Latency]:
    """Measure long calls in alternating rounds, one a round, after one of each that does not count."""
    for call in calls.values():
        call()
    traces: dict[str, list[float]] = {name: [] for name in calls}
    gc.collect()
    for _ in range(rounds):
        for name, call in calls.items():
            traces[name] += sample(call, 0.0, clock, fewest=1)
    return {
        name: summarise(np.array(trace), sum(trace) / 1000, rounds=tuple(trace))
        for name, trace in traces.items()
    }
