from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain, cycle, pairwise, repeat

import numpy as np
import pytest

from edgeproof_benchmarks.latency import (
    alternate,
    interleave,
    measure,
    percentile,
    ratio,
    sample,
    summarise,
    upper_bound,
    warm_up,
)


class SlowClock:
    """A clock that only the calls of a test move, so that no test depends on the speed of a machine."""

    def __init__(self):
        self.now = 0.0
        self.called: list[str] = []

    def __call__(self) -> float:
        return self.now

    def call(self, durations: Iterator[float], name: str = "") -> Callable[[], None]:
        """Return a call that takes the next of these durations in seconds."""

        def wait() -> None:
            self.now += next(durations)
            self.called.append(name)

        return wait


def test_measure__every_sample_counts():
    clock = SlowClock()
    durations = chain(repeat(0.001, 100), cycle([*repeat(0.001, 99), 0.5]))
    found = measure(clock.call(durations), seconds=2.0, warmup_seconds=0.1, clock=clock)
    assert found.p50 == pytest.approx(1.0)
    assert found.max == pytest.approx(500.0)
    assert found.mean > 5
    assert found.seconds == pytest.approx(found.trace_ms.sum() / 1000)
    assert found.n == len(found.trace_ms)


def test_measure__the_warm_up_is_not_part_of_it():
    clock = SlowClock()
    falling = chain((0.1 / 2**step for step in range(6)), repeat(0.001))
    found = measure(clock.call(falling), seconds=1.0, warmup_seconds=0.5, clock=clock)
    assert found.stable
    assert found.max == pytest.approx(1.0)
    assert found.warmup_seconds >= 0.5


def test_warm_up__goes_on_until_the_median_is_stable():
    clock = SlowClock()
    falling = chain(repeat(0.1, 10), repeat(0.05, 20), repeat(0.01))
    assert warm_up(clock.call(falling), 2.0, clock)
    assert clock.now >= 4.0


def test_warm_up__ends_and_says_so_where_nothing_settles():
    clock = SlowClock()
    assert not warm_up(clock.call(1.1**step for step in range(10_000)), 1.0, clock)
    assert len(clock.called) == 10


@pytest.mark.parametrize(
    ("count", "q", "given"), [(63, 0.9, False), (64, 0.9, True), (661, 0.99, False), (662, 0.99, True)]
)
def test_percentile__only_where_the_samples_can_prove_a_bound(count: int, q: float, given: bool):
    assert (percentile(np.arange(count, dtype=np.float64), q) is not None) == given


def test_percentile__is_an_observed_value():
    assert percentile(np.array([*range(1, 100), 1000.0]), 0.9) == 90.0


def test_upper_bound__is_above_the_percentile_and_comes_near_it_with_more_samples():
    few, many = np.arange(64) / 64, np.arange(64_000) / 64_000
    assert upper_bound(few, 0.9) == few.max()
    assert upper_bound(few[:63], 0.9) is None
    bound = upper_bound(many, 0.9)
    assert bound is not None
    assert 0.9 < bound < 0.905


def test_sample__goes_on_for_enough_samples_but_not_for_ever():
    clock = SlowClock()
    assert len(sample(clock.call(repeat(0.1)), 1.0, clock, fewest=20)) == 20
    assert len(sample(clock.call(repeat(1.0)), 1.0, clock, fewest=20)) == 4
    assert len(sample(clock.call(repeat(9.0)), 1.0, clock, fewest=20)) == 1
    assert len(sample(clock.call(repeat(0.01)), 0.001, clock, fewest=8)) == 8
    assert len(sample(clock.call(repeat(0.1)), 0.001, clock, fewest=8)) == 2


def test_interleave__energy_of_each_call_alone():
    clock = SlowClock()

    class Meter:
        def joules(self) -> float:
            return 5.0 * clock.now

    calls = {"a": clock.call(repeat(0.1)), "b": clock.call(repeat(0.3))}
    meters = dict.fromkeys(calls, Meter())
    found = interleave(calls, seconds=3.0, warmup_seconds=0.5, rounds=3, clock=clock, meters=meters)
    assert found["a"].millijoules == pytest.approx(500)
    assert found["b"].millijoules == pytest.approx(1500)
    assert "millijoules" not in measure(calls["a"], seconds=1.0, warmup_seconds=0.5, clock=clock).to_dict()


def test_summarise__too_few_samples_give_no_tail():
    plain = summarise(np.array([1.0, 2.0, 3.0]), 0.006).to_dict()
    assert (plain["n"], plain["p50"], plain["p90"], plain["p99"]) == (3, 2.0, None, None)
    assert (plain["stdev"], plain["cov"]) == pytest.approx((1.0, 0.5))
    assert "trace_ms" not in plain


def test_summarise__no_samples():
    with pytest.raises(ValueError, match="no samples"):
        summarise(np.empty(0), 0.0)


def test_interleave__rounds_alternate():
    clock = SlowClock()
    calls = {name: clock.call(repeat(0.1), name) for name in "ab"}
    interleave(calls, seconds=1.0, warmup_seconds=0.2, rounds=2, clock=clock)
    changes = [name for before, name in pairwise(["", *clock.called]) if name != before]
    assert changes == ["a", "b", "a", "b", "a", "b"]


def test_ratio__a_drift_that_meets_both_is_not_in_it():
    clock = SlowClock()
    drift = [1.0, 3.0, 9.0, 27.0]

    def drifting(base: float) -> Callable[[], None]:
        def wait() -> None:
            clock.now += base * drift[min(int(clock.now // 40), 3)]

        return wait

    found = interleave(
        {"slow": drifting(0.02), "fast": drifting(0.01)}, seconds=100.0, warmup_seconds=1.0, clock=clock
    )
    assert ratio(found["slow"], found["fast"]).median == pytest.approx(2.0)


def test_ratio__an_interval_that_one_disturbed_round_does_not_widen():
    quiet = summarise(np.ones(9), 0.009, rounds=(1.0,) * 9)
    slower = summarise(np.ones(9), 0.009, rounds=(2.0, 2.1, 1.9, 2.0, 50.0, 2.05, 1.95, 2.0, 2.0))
    found = ratio(slower, quiet)
    assert (found.low, found.high) == (1.9, 50.0)
    assert found.interval == (1.95, 2.1)
    assert found.confidence > 0.95
    assert found.to_dict()["interval"] == [1.95, 2.1]


def test_ratio__needs_the_same_rounds():
    clock = SlowClock()
    a = measure(clock.call(repeat(0.1)), seconds=1.0, warmup_seconds=0.1, clock=clock)
    b = interleave({"b": clock.call(repeat(0.1))}, seconds=1.0, warmup_seconds=0.1, rounds=2, clock=clock)[
        "b"
    ]
    with pytest.raises(ValueError, match="same rounds, got 1 and 2"):
        ratio(a, b)


def test_alternate__one_call_a_round_after_one_that_does_not_count():
    clock = SlowClock()
    falling = chain([9.0], repeat(2.0))
    calls = {"a": clock.call(falling, "a"), "b": clock.call(repeat(1.0), "b")}
    found = alternate(calls, 3, clock=clock)
    assert clock.called == ["a", "b"] * 4
    assert found["a"].rounds_p50 == (2000.0, 2000.0, 2000.0)
    assert ratio(found["a"], found["b"]).median == pytest.approx(2.0)
