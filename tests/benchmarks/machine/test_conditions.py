from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.benchmarks.machine.stand_in import FakeNvml

from edgeproof_benchmarks.latency import Latency, summarise
from edgeproof_benchmarks.machine.conditions import Watch, disturbed, short_runs, stamp, unsteady


def run(count: int = 1000, seconds: float = 700.0, **settings: Any) -> Latency:
    return summarise(np.full(count, 1.0), seconds, **settings)


def test_short_runs__mlperf_asks_for_600_seconds_and_64_samples():
    assert short_runs({"a": run()}) == []
    said = short_runs({"a": run(), "b": run(count=20, seconds=2.0)})
    assert said == ["measured for 2 s (b); MLPerf asks for 600 s at least", "20 samples (b); p90 needs 64"]
    assert short_runs({}) == ["nothing was measured"]


def test_disturbed__by_others_and_by_the_hypervisor():
    assert disturbed({"own": 0.9, "others": 0.04, "stolen": 0.0}) == []
    said = disturbed({"own": 0.5, "others": 0.4, "stolen": 0.02})
    assert said == [
        "other processes used 40 % of the cores' time",
        "the hypervisor gave 2.0 % of the cores' time to others",
    ]
    assert disturbed("not read: no /proc") == ["the load was not read: no /proc"]


def test_unsteady__medians_that_move():
    assert unsteady({"a": run(rounds=(1.0, 1.05)), "b": run()}) == []
    said = unsteady({"a": run(rounds=(1.0, 1.3)), "b": run(stable=False)})
    assert said == [
        "the warm-up of b did not settle",
        "the median of a moved by 30 % from round to round",
    ]


def steady(watch: Watch) -> None:
    """Give the machine that was looked at locked clocks, so that only what a test changes is judged."""
    for state in watch.states:
        state["processor"] |= {"governor": "performance", "frequency_mhz": {"mean": 3000.0}}
        state["jetson"] = "not read: no Jetson"


def test_watch__locked_clocks_are_not_spoken_of():
    watch = Watch(uses_gpu=True, nvml=FakeNvml())
    watch.look()
    steady(watch)
    assert watch.moved() == []


@pytest.mark.parametrize(
    ("part", "value", "words"),
    [
        ("governor", "schedutil", "the governor is 'schedutil'"),
        ("governor", "not read: why", "governor was not read: why"),
        ("frequency_mhz", {"mean": 2000.0}, "the processor's clock wandered between 2000 and 3000 MHz"),
    ],
)
def test_watch__a_processor_whose_clocks_move(part: str, value: Any, words: str):
    watch = Watch(nvml="not read: none")
    watch.look()
    steady(watch)
    watch.states[0]["processor"][part] = value
    assert words in "; ".join(watch.moved())


def test_watch__a_gpu_that_throttles_and_wanders():
    nvml = FakeNvml()
    watch = Watch(uses_gpu=True, nvml=nvml)
    watch.look()
    nvml.mask, nvml.sm_clock = 0x20, 1500
    watch.look()
    steady(watch)
    assert watch.moved() == [
        "GPU 0 (An invented GPU) throttled: sw_thermal_slowdown",
        "the clock of GPU 0 wandered between 1500 and 1980 MHz",
    ]
    watch.uses_gpu = False
    assert watch.moved() == []


def test_watch__a_jetson_whose_clocks_are_not_locked():
    watch = Watch(nvml="not read: none")
    steady(watch)
    watch.states[0]["jetson"] = {"nvpmodel": {"name": "15W", "id": 0}, "jetson_clocks": {"locked": False}}
    assert watch.moved() == ["the clocks are not locked: run `sudo jetson_clocks`"]
    watch.states[0]["jetson"]["jetson_clocks"] = "not read: needs root"
    assert watch.moved() == ["the state of jetson_clocks was not read: needs root"]


def test_watch__a_short_run_here_is_not_official():
    watch = Watch(nvml="not read: none")
    found = watch.end({"a": run(count=10, seconds=0.1)}, "not read: no meter")
    assert found["official"] is False
    assert found["energy"] == "not read: no meter"
    assert found["before"]["gpus"] == "not read: none"
    assert stamp(found).startswith("not official: measured for 0.1 s (a)")
    assert stamp({"official": True, "reasons": []}) == "official"
