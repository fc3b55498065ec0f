"""Energy in joules since some moment, of whatever this machine can tell: a counter, or power over time.

Each meter reads the whole device, idle power included: the processor package (RAPL), the GPU's board (NVML),
a Jetson's module (INA sensors by hwmon, or `tegrastats`). Nothing is estimated where nothing can be read.
"""

from __future__ import annotations

import shutil
import subprocess
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from edgeproof_benchmarks.machine.jetson import TOTAL_RAILS, parse_tegrastats
from edgeproof_benchmarks.machine.nvidia import load_nvml
from edgeproof_benchmarks.machine.readings import file_text, not_read
from edgeproof_deploy.runtime.model_interface import Session

POWERCAP = Path("/sys/class/powercap")
HWMON = Path("/sys/class/hwmon")
SAMPLE_SECONDS = 0.02
TEGRASTATS_MS = 100
FIRST_SAMPLE_SECONDS = 5.0


class Meter(ABC):
    """A source of energy figures; `source` says in words what it reads."""

    source: str

    @abstractmethod
    def joules(self) -> float:
        """Return the energy since some fixed moment."""

    def close(self) -> None:
        """Stop reading."""


class RaplMeter(Meter):
    """The counters of the processor packages, `energy_uj` of Linux' powercap, which wrap around.

    Raises:
        OSError: they cannot be read (Linux lets only root read them, since 5.10).
    """

    def __init__(self, root: Path = POWERCAP):
        self.zones = sorted(zone for zone in root.glob("*-rapl:*") if zone.name.count(":") == 1)
        if not self.zones:
            raise FileNotFoundError(f"{root} has no RAPL zone")
        self.ranges = [int((zone / "max_energy_range_uj").read_text()) for zone in self.zones]
        self.last = [self.micro(zone) for zone in self.zones]
        self.total = 0
        names = [file_text(zone / "name") for zone in self.zones]
        self.source = f"RAPL {', '.join(names)}"

    @staticmethod
    def micro(zone: Path) -> int:
        """Return a zone's counter in microjoules."""
        return int((zone / "energy_uj").read_text())

    def joules(self) -> float:
        """Return the energy of all packages since the meter was made."""
        now = [self.micro(zone) for zone in self.zones]
        for value, before, limit in zip(now, self.last, self.ranges, strict=True):
            self.total += value - before if value >= before else value - before + limit
        self.last = now
        return self.total / 1e6


class NvmlMeter(Meter):
    """The energy counter of a GPU (Volta and later), in millijoules since the driver was loaded.

    Raises:
        RuntimeError: there is no such counter.
    """

    def __init__(self, nvml: Any, index: int = 0):
        if isinstance(nvml, str):
            raise RuntimeError(nvml)
        self.nvml = nvml
        try:
            self.handle = nvml.nvmlDeviceGetHandleByIndex(index)
            self.joules()
        except nvml.NVMLError as error:
            raise RuntimeError(f"NVML: {error}") from error
        self.source = f"NVML energy counter of GPU {index}"

    def joules(self) -> float:
        """Return the energy of the board."""
        return self.nvml.nvmlDeviceGetTotalEnergyConsumption(self.handle) / 1e3


class SampledMeter(Meter):
    """Power samples, added up over time by the trapezoid rule in a thread of their own.

    Args:
        watts: gives a sample whenever there is one, and waits in between.
        source: what is read.
        clock: seconds, monotonic.
        stop: called at the end; must make `watts` end.

    Raises:
        RuntimeError: there is no sample, or none came within five seconds.
    """

    def __init__(
        self,
        watts: Iterator[float],
        source: str,
        *,
        clock: Callable[[], float] = time.monotonic,
        stop: Callable[[], None] = lambda: None,
    ):
        self.source = source
        self.clock = clock
        self.stop = stop
        self.lock = threading.Lock()
        self.at, self.power, self.total, self.samples = 0.0, 0.0, 0.0, 0
        self.began = threading.Event()
        self.closed = False
        self.thread = threading.Thread(target=self.add_up, args=(watts,), daemon=True)
        self.thread.start()
        self.began.wait(FIRST_SAMPLE_SECONDS)
        if not self.samples:
            self.close()
            raise RuntimeError(f"{source} gives no power")

    def add_up(self, watts: Iterator[float]) -> None:
        """Take every sample, until there are no more."""
        for power in watts:
            now = self.clock()
            with self.lock:
                if self.samples:
                    self.total += (now - self.at) * (self.power + power) / 2
                self.at, self.power, self.samples = now, power, self.samples + 1
            self.began.set()
            if self.closed:
                return
        self.began.set()

    def joules(self) -> float:
        """Return the energy since the first sample; after the last one its power is taken to last."""
        with self.lock:
            return self.total + (self.clock() - self.at) * self.power

    def close(self) -> None:
        """Stop reading."""
        self.closed = True
        self.stop()
        self.thread.join(timeout=FIRST_SAMPLE_SECONDS)


def ina_rails(root: Path = HWMON) -> dict[str, tuple[Path, Path]]:
    """Return the files of voltage (mV) and current (mA) of each rail of a Jetson's INA3221 sensors.

    Where one rail carries everything it is the only one.
    """
    rails = {}
    for sensor in sorted(root.glob("hwmon*")):
        if file_text(sensor / "name") != "ina3221":
            continue
        for label in sorted(sensor.glob("in*_label")):
            number = label.name.removeprefix("in").removesuffix("_label")
            volts, amperes = sensor / f"in{number}_input", sensor / f"curr{number}_input"
            if volts.exists() and amperes.exists():
                rails[file_text(label)] = (volts, amperes)
    total = next((rail for rail in TOTAL_RAILS if rail in rails), None)
    return {total: rails[total]} if total else rails


def ina_meter(root: Path = HWMON, every: float = SAMPLE_SECONDS) -> SampledMeter:
    """Return a meter of the INA sensors.

    Raises:
        RuntimeError: there are none, or they cannot be read.
    """
    rails = ina_rails(root)
    if not rails:
        raise RuntimeError("there is no INA3221 sensor")
    ended = threading.Event()

    def watts() -> Iterator[float]:
        while not ended.is_set():
            texts = [(file_text(volts), file_text(amperes)) for volts, amperes in rails.values()]
            if not all(text.isdigit() for pair in texts for text in pair):
                return
            yield sum(int(volts) * int(amperes) for volts, amperes in texts) / 1e6
            ended.wait(every)

    return SampledMeter(watts(), f"INA3221 {', '.join(rails)}", stop=ended.set)


def tegrastats_meter(program: str = "tegrastats", every_ms: int = TEGRASTATS_MS) -> SampledMeter:
    """Return a meter of the power that `tegrastats` prints.

    Raises:
        RuntimeError: there is no such program, or it prints no power.
    """
    found = shutil.which(program)
    if found is None:
        raise RuntimeError("there is no tegrastats")
    process = subprocess.Popen([found, "--interval", str(every_ms)], stdout=subprocess.PIPE, text=True)

    def watts() -> Iterator[float]:
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                power = parse_tegrastats(line).watts
                if power is not None:
                    yield power

    def stop() -> None:
        process.terminate()
        process.wait(FIRST_SAMPLE_SECONDS)

    return SampledMeter(watts(), "tegrastats", stop=stop)


def find_meter(uses_gpu: bool) -> Meter | str:
    """Return the meter of the device that works, or why there is none.

    On a Jetson it is the module, whatever works; elsewhere the GPU's board for an engine that runs there, and
    the processor package for others.
    """
    ways: list[Callable[[], Meter]] = [ina_meter, tegrastats_meter]
    ways.append((lambda: NvmlMeter(load_nvml())) if uses_gpu else RaplMeter)
    reasons = []
    for way in ways:
        try:
            return way()
        except (OSError, RuntimeError, ValueError) as error:
            reasons.append(str(error).removeprefix(not_read("")))
    return not_read("; ".join(reasons))


def on_gpu(session: Session) -> bool:
    """Whether a session runs on an NVIDIA GPU, by what it says of itself."""
    return any(word in session.providers[0].lower() for word in ("cuda", "tensorrt"))


def meters_of(sessions: Mapping[str, Session], stack: ExitStack) -> tuple[dict[str, Meter], str]:
    """Return what to read the energy of each session from, and that in words, or why it is not read.

    Args:
        sessions: by name.
        stack: closes the meters.
    """
    found: dict[bool, Meter | str] = {}
    for gpu in sorted({on_gpu(session) for session in sessions.values()}):
        found[gpu] = meter = find_meter(gpu)
        if not isinstance(meter, str):
            stack.callback(meter.close)
    meters = {name: found[on_gpu(session)] for name, session in sessions.items()}
    words = "; ".join(dict.fromkeys(joules_or_reason(meter) for meter in found.values()))
    return {name: meter for name, meter in meters.items() if isinstance(meter, Meter)}, words


def joules_or_reason(meter: Meter | str) -> str:
    """Return what a meter reads, in words, or why nothing is read."""
    return meter.source if isinstance(meter, Meter) else meter
