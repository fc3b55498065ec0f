"""Latency: warm-up until the median is stable, every sample kept, percentiles where there are enough samples.

The result of a latency run is p90 at batch 1, the next query on completion of the last (MLPerf inference,
SingleStream). No sample is ever clipped: a slow query is a slow query. A run is as long as was asked for, and
goes on, up to four times as long, until p90 has the samples that it needs.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import ceil
from typing import Any, Protocol

import numpy as np

from edgeproof_benchmarks.intervals import allowed_over, fewest_for, median_interval

STABLE_WITHIN = 0.05
MOST_WARMUP_WINDOWS = 10
ENOUGH_SAMPLES = fewest_for(0.9)
"""How many samples a run waits for: 64, as p90 needs."""
LONGEST = 4.0
"""How many times longer than asked for a run may go on to have them."""
PATIENCE_SECONDS = 0.2
ROUNDS = 10

Clock = Callable[[], float]
Call = Callable[[], Any]


class EnergyMeter(Protocol):
    """What has used energy since some moment; see `energy`."""

    def joules(self) -> float:
        """Return the energy so far."""
        ...


@dataclass(frozen=True)
class Latency:
    """The distribution of one call's duration; times in milliseconds unless the name says otherwise.

    Percentiles are observed values (nearest rank). One is given where the samples could prove a bound of it
    by MLPerf's rule for ending a run early (`intervals`): p90 needs 64 samples, p95 130, p99 662, p99.9
    6,636. Otherwise it is None: n is too small.

    Attributes:
        n: number of samples.
        seconds: time spent measuring.
        p90_bound: what p90 is not above, with 99 % confidence: MLPerf's early-stopping estimate.
        warmup_seconds: time spent before that.
        stable: whether the median of the warm-up settled within 5 %.
        rounds_p50: the median of each round, where rounds alternated with those of other calls.
        millijoules: energy of the device for one call, idle power included; None where it was not read.
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
    p90_bound: float | None = None
    warmup_seconds: float = 0.0
    stable: bool = True
    rounds_p50: tuple[float, ...] = ()
    millijoules: float | None = None
    trace_ms: np.ndarray = field(default_factory=lambda: np.empty(0), repr=False, compare=False)

    @property
    def cov(self) -> float:
        """The coefficient of variation: standard deviation over mean."""
        return self.stdev / self.mean if self.mean else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return plain data without the trace; the medians of the rounds, where there were any, in a list."""
        hidden = ("trace_ms", "rounds_p50", "millijoules")
        plain = {key: value for key, value in self.__dict__.items() if key not in hidden} | {"cov": self.cov}
        found = {key: round(value, 6) if isinstance(value, float) else value for key, value in plain.items()}
        if self.millijoules is not None:
            found["millijoules"] = round(self.millijoules, 4)
        rounds = [round(value, 6) for value in self.rounds_p50]
        return found | ({"rounds_p50_ms": rounds} if rounds else {})


def percentile(trace_ms: np.ndarray, q: float) -> float | None:
    """Return the nearest-rank percentile, or None where there are too few samples to prove a bound of it."""
    if len(trace_ms) < fewest_for(q):
        return None
    return float(np.quantile(trace_ms, q, method="inverted_cdf"))


def upper_bound(trace_ms: np.ndarray, q: float) -> float | None:
    """Return MLPerf's early-stopping estimate of a percentile, or None where there are too few samples.

    Of n samples t over a bound would still prove it; the t - 1 slowest are set aside, and the slowest that is
    left is the bound.
    """
    over = allowed_over(len(trace_ms), q)
    return float(np.sort(trace_ms)[len(trace_ms) - over]) if over else None


def summarise(
    trace_ms: np.ndarray,
    seconds: float,
    *,
    warmup_seconds: float = 0.0,
    stable: bool = True,
    rounds: tuple[float, ...] = (),
    joules: float | None = None,
) -> Latency:
    """Return the distribution of samples in milliseconds; `joules` is the energy of all of them.

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
        p90_bound=upper_bound(trace_ms, 0.9),
        warmup_seconds=warmup_seconds,
        stable=stable,
        rounds_p50=rounds,
        millijoules=None if joules is None else 1000 * joules / len(trace_ms),
        trace_ms=trace_ms,
    )


def median(trace_ms: np.ndarray) -> float:
    """Return the nearest-rank median."""
    return float(np.quantile(trace_ms, 0.5, method="inverted_cdf"))


def sample(call: Call, seconds: float, clock: Clock = time.perf_counter, fewest: int = 1) -> list[float]:
    """Call again and again for `seconds`; return each duration in milliseconds.

    It goes on until there are `fewest` of them, at most `LONGEST` times as long, but for `PATIENCE_SECONDS`
    in any case.
    """
    durations: list[float] = []
    began = clock()
    end, latest = began + seconds, began + max(LONGEST * seconds, PATIENCE_SECONDS)
    while True:
        before = clock()
        call()
        after = clock()
        durations.append(1000 * (after - before))
        if after >= end and (len(durations) >= fewest or after >= latest):
            return durations


def warm_up(call: Call, seconds: float, clock: Clock = time.perf_counter) -> bool:
    """Call for at least `seconds`, then on until the median of a window is within 5 % of the one before it.

    A window is half of `seconds`; after ten of them it stops in any case.

    Returns:
        Whether the median settled.
    """
    before = None
    for _ in range(MOST_WARMUP_WINDOWS):
        now = median(np.array(sample(call, seconds / 2, clock)))
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
    fewest: int = ENOUGH_SAMPLES,
    clock: Clock = time.perf_counter,
    meters: Mapping[str, EnergyMeter] | None = None,
) -> dict[str, Latency]:
    """Measure several calls in alternating rounds (A B A B ...), so that a drift of the machine meets all.

    Args:
        calls: what is measured, by name.
        seconds: for how long each of them, over all rounds.
        warmup_seconds: as in `measure`, for each.
        rounds: how often to go round.
        fewest: how many samples of each to wait for, at most `LONGEST` times as long.
        clock: seconds, monotonic.
        meters: what to read the energy of a call from, before and after each of its turns, by name.
    """
    began = clock()
    settled = {name: warm_up(call, warmup_seconds, clock) for name, call in calls.items()}
    warmed = clock() - began
    traces: dict[str, list[list[float]]] = {name: [] for name in calls}
    joules = dict.fromkeys(calls, 0.0)
    gc.collect()
    for _ in range(rounds):
        for name, call in calls.items():
            meter = (meters or {}).get(name)
            before = meter.joules() if meter else 0.0
            traces[name].append(sample(call, seconds / rounds, clock, ceil(fewest / rounds)))
            joules[name] += meter.joules() - before if meter else 0.0
    found = {}
    for name, parts in traces.items():
        trace_ms = np.concatenate([np.array(part) for part in parts])
        found[name] = summarise(
            trace_ms,
            float(trace_ms.sum()) / 1000,
            warmup_seconds=warmed / len(calls),
            stable=settled[name],
            rounds=tuple(median(np.array(part)) for part in parts),
            joules=joules[name] if name in (meters or {}) else None,
        )
    return found


@dataclass(frozen=True)
class Ratio:
    """How many times longer one call takes than another: median over rounds of the ratio of their medians.

    Attributes:
        low: the smallest of the rounds; `high` is the largest.
        interval: in which the true median lies with `confidence` (sign test over the rounds).
        n: samples of both, the fewer.
    """

    median: float
    low: float
    high: float
    rounds: int
    interval: tuple[float, float]
    confidence: float
    n: int

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        plain = {key: value for key, value in self.__dict__.items() if key != "interval"}
        found = {key: round(value, 4) if isinstance(value, float) else value for key, value in plain.items()}
        return found | {"interval": [round(end, 4) for end in self.interval]}


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
    within = median_interval(each.tolist())
    return Ratio(
        median=float(np.median(each)),
        low=float(each.min()),
        high=float(each.max()),
        rounds=len(each),
        interval=(within.low, within.high),
        confidence=within.confidence,
        n=min(slower.n, faster.n),
    )


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
            traces[name] += sample(call, 0.0, clock)
    return {
        name: summarise(np.array(trace), sum(trace) / 1000, rounds=tuple(trace))
        for name, trace in traces.items()
    }
