"""Under which conditions something was measured, and whether its figures may be called official.

Official means what MLPerf inference asks of SingleStream, and that nothing else moved: 600 s and 64 samples
of each call; clocks that are locked and did not wander, or throttle; cores that nobody else used. Most runs
at a desk are not, and say why.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from edgeproof_benchmarks.intervals import fewest_for
from edgeproof_benchmarks.latency import Latency
from edgeproof_benchmarks.machine.jetson import jetson_state
from edgeproof_benchmarks.machine.nvidia import gpu_states, load_nvml, throttling
from edgeproof_benchmarks.machine.processor import cpu_times, processor_state, shares
from edgeproof_benchmarks.machine.readings import is_read

OFFICIAL_SECONDS = 600.0
"""MLPerf inference rules, SingleStream: the shortest duration of a run."""
WANDER = 0.05
"""Clocks that differ by more than this share of each other wander."""
ROUNDS_WANDER = 0.10
"""Medians of rounds that differ by more than this share of the smallest wander."""
BUSY = 0.05
"""Others that use more than this share of the cores' time disturb."""
STOLEN = 0.01


def machine_state(nvml: Any) -> dict[str, Any]:
    """Return the machine now: `at`, `processor`, `gpus`, `jetson`; what could not be read says why."""
    return {
        "at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "processor": processor_state(),
        "gpus": gpu_states(nvml),
        "jetson": jetson_state(),
    }


@dataclass
class Watch:
    """The machine before, during and after a measurement.

    Attributes:
        uses_gpu: whether what is measured runs on a GPU; else the GPU's clocks are told and not judged.
        states: as seen so far, the first before anything was measured.
    """

    uses_gpu: bool = False
    nvml: Any = field(default_factory=load_nvml)
    states: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.times = cpu_times()
        self.look()

    def look(self) -> None:
        """Note how the machine is now; best right after some load, whose clocks it shows."""
        self.states.append(machine_state(self.nvml))

    def end(self, latencies: Mapping[str, Latency], energy: str = "") -> dict[str, Any]:
        """Return `before`, `after`, `cpu_time`, `energy`, `official` and the `reasons` why it is not.

        Args:
            latencies: everything that was measured, by name.
            energy: what the energy was read from, or why it was not.
        """
        used = shares(self.times, cpu_times())
        self.look()
        reasons = [*short_runs(latencies), *disturbed(used), *self.moved(), *unsteady(latencies)]
        return {
            "before": self.states[0],
            "after": self.states[-1],
            "cpu_time": used,
            "energy": energy,
            "official": not reasons,
            "reasons": reasons,
        }

    def moved(self) -> list[str]:
        """Return what is to be said of clocks: not locked, not read, wandering, throttled."""
        said = [*governors(self.states[0]["processor"]["governor"]), *self.processor_clocks()]
        said += jetson_clocks(self.states[0]["jetson"])
        if self.uses_gpu:
            said += self.gpu_clocks()
        return said

    def processor_clocks(self) -> list[str]:
        """Return a sentence where the mean frequency of the cores moved."""
        found = [state["processor"]["frequency_mhz"] for state in self.states]
        means = [one["mean"] for one in found if isinstance(one, dict)]
        if not means:
            return [f"the processor's frequency was {found[0]}"]
        return wandering("the processor's clock", means)

    def gpu_clocks(self) -> list[str]:
        """Return what is to be said of the GPUs; the first look is before the load and not compared."""
        if not is_read(self.states[0]["gpus"]):
            return [f"the GPU's clocks were {self.states[0]['gpus']}"]
        said = []
        for index, gpu in enumerate(self.states[0]["gpus"]):
            seen = [state["gpus"][index] for state in self.states]
            reasons = dict.fromkeys(reason for one in seen for reason in throttling(one))
            if reasons:
                said.append(f"GPU {index} ({gpu['name']}) throttled: {', '.join(reasons)}")
            clocks = [one["sm_clock_mhz"] for one in seen[1:] if is_read(one["sm_clock_mhz"])]
            said += wandering(f"the clock of GPU {index}", clocks)
        return said


def short_runs(latencies: Mapping[str, Latency]) -> list[str]:
    """Return a sentence where a run was shorter, or had fewer samples, than MLPerf asks for."""
    if not latencies:
        return ["nothing was measured"]
    name, shortest = min(latencies.items(), key=lambda item: item[1].seconds)
    said = []
    if shortest.seconds < OFFICIAL_SECONDS:
        said.append(
            f"measured for {shortest.seconds:.3g} s ({name}); MLPerf asks for {OFFICIAL_SECONDS:g} s at least"
        )
    name, fewest = min(latencies.items(), key=lambda item: item[1].n)
    if fewest.n < fewest_for(0.9):
        said.append(f"{fewest.n} samples ({name}); p90 needs {fewest_for(0.9)}")
    return said


def disturbed(used: dict[str, float] | str) -> list[str]:
    """Return what is to be said of others that used the processor meanwhile."""
    if isinstance(used, str):
        return [f"the load was {used}"]
    said = []
    if used["others"] > BUSY:
        said.append(f"other processes used {100 * used['others']:.0f} % of the cores' time")
    if used["stolen"] > STOLEN:
        said.append(f"the hypervisor gave {100 * used['stolen']:.1f} % of the cores' time to others")
    return said


def unsteady(latencies: Mapping[str, Latency]) -> list[str]:
    """Return what is to be said of medians that did not settle, or moved from round to round."""
    said = [f"the warm-up of {name} did not settle" for name, found in latencies.items() if not found.stable]
    moves = {
        name: max(found.rounds_p50) / min(found.rounds_p50) - 1
        for name, found in latencies.items()
        if len(found.rounds_p50) > 1 and min(found.rounds_p50) > 0
    }
    name, most = max(moves.items(), key=lambda item: item[1], default=("", 0.0))
    if most > ROUNDS_WANDER:
        said.append(f"the median of {name} moved by {100 * most:.0f} % from round to round")
    return said


def governors(found: str) -> list[str]:
    """Return a sentence where the governor lets the clock move, or is not known."""
    if not is_read(found):
        return [f"the processor's governor was {found}"]
    return [] if found == "performance" else [f"the governor is '{found}': the processor's clock may move"]


def jetson_clocks(found: dict[str, Any] | str) -> list[str]:
    """Return a sentence where a Jetson's clocks are not locked."""
    if not isinstance(found, dict):
        return []
    clocks = found["jetson_clocks"]
    if not isinstance(clocks, dict):
        return [f"the state of jetson_clocks was {clocks}"]
    return [] if clocks["locked"] else ["the clocks are not locked: run `sudo jetson_clocks`"]


def wandering(what: str, clocks: list[float]) -> list[str]:
    """Return a sentence where clocks in MHz differ too much."""
    if len(clocks) < 2 or max(clocks) - min(clocks) <= WANDER * max(clocks):
        return []
    return [f"{what} wandered between {min(clocks):.0f} and {max(clocks):.0f} MHz"]


def stamp(conditions: Mapping[str, Any]) -> str:
    """Return `official`, or `not official: ` with the reasons."""
    return "official" if conditions["official"] else f"not official: {'; '.join(conditions['reasons'])}"
