"""A stand-in for NVML, which needs a GPU: the calls that are used, with values that a test sets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class FakeNvml:
    """The module `pynvml`, as far as it is used, on a machine with one GPU."""

    NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU = 1, 2, 0

    class NVMLError(Exception):
        pass

    def __init__(self, missing: tuple[str, ...] = (), count: int = 1):
        self.missing, self.count = missing, count
        self.nvmlDeviceGetComputeRunningProcesses: Callable[[int], list[Any]] = lambda handle: []
        self.sm_clock, self.mask, self.energy_mj = 1980, 0, 10_000

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("nvml") and name in self.missing:

            def refuse(*_: Any) -> None:
                raise self.NVMLError("Not Supported")

            return refuse
        return super().__getattribute__(name)

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return self.count

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
        return index

    def nvmlDeviceGetName(self, handle: int) -> bytes:  # noqa: N802
        return b"An invented GPU"

    def nvmlDeviceGetClockInfo(self, handle: int, which: int) -> int:  # noqa: N802
        return self.sm_clock if which == self.NVML_CLOCK_SM else 2619

    def nvmlDeviceGetMaxClockInfo(self, handle: int, which: int) -> int:  # noqa: N802
        return 1980

    def nvmlDeviceGetTemperature(self, handle: int, which: int) -> int:  # noqa: N802
        return 41

    def nvmlDeviceGetPowerUsage(self, handle: int) -> int:  # noqa: N802
        return 123_456

    def nvmlDeviceGetEnforcedPowerLimit(self, handle: int) -> int:  # noqa: N802
        return 700_000

    def nvmlDeviceGetCurrentClocksEventReasons(self, handle: int) -> int:  # noqa: N802
        return self.mask

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: int) -> int:  # noqa: N802
        return self.energy_mj
