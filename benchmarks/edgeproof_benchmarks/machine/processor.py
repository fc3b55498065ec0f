"""The processor: model, governor, clocks, load, and who used its cores while something was measured."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeproof_benchmarks.machine.readings import file_text, is_read, not_read
from edgeproof_configs.run import processor_name

SYSTEM = Path("/sys/devices/system/cpu")
PROC = Path("/proc")


def processor_state(system: Path = SYSTEM, proc: Path = PROC) -> dict[str, Any]:
    """Return `model`, `cores`, `governor`, `frequency_mhz` and `load_average`, each a value or why not."""
    return {
        "model": processor_name(),
        "cores": usable_cores(),
        "governor": governor(system),
        "frequency_mhz": frequency_mhz(system, proc),
        "load_average": load_average(),
    }


def usable_cores() -> int:
    """Return how many cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def governor(system: Path = SYSTEM) -> str:
    """Return the governor of the clocks; several, if the cores have different ones."""
    files = sorted(system.glob("cpu[0-9]*/cpufreq/scaling_governor"))
    if not files:
        return not_read("this system shows no governor (no cpufreq, as in most virtual machines)")
    found = [file_text(file) for file in files]
    return ", ".join(sorted(set(found)))


def frequency_mhz(system: Path = SYSTEM, proc: Path = PROC) -> dict[str, Any] | str:
    """Return `min`, `mean` and `max` over the cores, of cpufreq or of /proc/cpuinfo."""
    files = system.glob("cpu[0-9]*/cpufreq/scaling_cur_freq")
    found = [float(text) / 1000 for text in map(file_text, files) if is_read(text) and text.isdigit()]
    source = "cpufreq"
    if not found:
        lines = file_text(proc / "cpuinfo").splitlines()
        found = [float(line.split(":")[1]) for line in lines if line.startswith("cpu MHz")]
        source = "/proc/cpuinfo"
    if not found:
        return not_read("neither cpufreq nor /proc/cpuinfo tells a frequency")
    return {
        "min": round(min(found), 1),
        "mean": round(sum(found) / len(found), 1),
        "max": round(max(found), 1),
        "source": source,
    }


def load_average() -> list[float] | str:
    """Return how many processes wanted to run, on average over 1, 5 and 15 minutes."""
    try:
        return [round(load, 2) for load in os.getloadavg()]
    except (OSError, AttributeError):
        return not_read("this system tells no load average")


@dataclass(frozen=True)
class CpuTimes:
    """Seconds of processor time since some moment: of all, of this process and its children, stolen.

    `stolen` is what a hypervisor gave to others while this machine wanted to run.
    """

    at: float
    busy: float
    own: float
    stolen: float
    cores: int


def cpu_times(proc: Path = PROC) -> CpuTimes | str:
    """Return the times until now, or why they could not be read."""
    text = file_text(proc / "stat")
    if not is_read(text):
        return text
    lines = text.splitlines()
    # user, nice, system, idle, iowait, irq, softirq, steal; guests are part of user (proc_stat(5)).
    fields = [int(word) for word in lines[0].split()[1:9]]
    ticks = os.sysconf("SC_CLK_TCK")
    stolen = fields[7] if len(fields) > 7 else 0
    busy = sum(fields) - fields[3] - fields[4] - stolen
    cores = sum(line.startswith("cpu") for line in lines) - 1
    return CpuTimes(time.monotonic(), busy / ticks, sum(os.times()[:4]), stolen / ticks, cores)


def shares(before: CpuTimes | str, after: CpuTimes | str) -> dict[str, float] | str:
    """Return the shares of all cores' time between two times: `own`, of `others`, and `stolen`."""
    if isinstance(before, str) or isinstance(after, str):
        return before if isinstance(before, str) else str(after)
    whole = (after.at - before.at) * after.cores
    if whole <= 0:
        return not_read("no time has passed")
    own = after.own - before.own
    others = max(0.0, after.busy - before.busy - own)
    found = {"own": own, "others": others, "stolen": after.stolen - before.stolen}
    return {name: round(seconds / whole, 4) for name, seconds in found.items()}
