"""NVIDIA GPUs by NVML (package `nvidia-ml-py`, optional): clocks, temperature, power, throttling.

The names of the reasons are those of `nvmlClocksEventReasons` (older: throttle reasons) in NVML's reference.
"""

from __future__ import annotations

from typing import Any

from edgeproof_benchmarks.machine.readings import not_read

HARMLESS = ("gpu_idle", "applications_clocks_setting", "user_defined_clocks", "display_clock_setting")
"""Reasons for a clock below its maximum that somebody chose, or that end with the load."""
REASONS = {
    "gpu_idle": 0x1,
    "applications_clocks_setting": 0x2,
    "sw_power_cap": 0x4,
    "hw_slowdown": 0x8,
    "sync_boost": 0x10,
    "sw_thermal_slowdown": 0x20,
    "hw_thermal_slowdown": 0x40,
    "hw_power_brake_slowdown": 0x80,
    "display_clock_setting": 0x100,
}


def load_nvml() -> Any:
    """Return the module with NVML initialised, or the words for why it cannot be asked."""
    try:
        import pynvml
    except ImportError:
        return not_read("nvidia-ml-py is not installed (pip install nvidia-ml-py)")
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return not_read(f"NVML does not answer: {error}")
    return pynvml


def gpu_states(nvml: Any) -> list[dict[str, Any]] | str:
    """Return a row for each GPU, or why there is none.

    Args:
        nvml: what `load_nvml` gave.
    """
    if isinstance(nvml, str):
        return nvml
    count = nvml.nvmlDeviceGetCount()
    if not count:
        return not_read("NVML finds no GPU")
    return [gpu_state(nvml, nvml.nvmlDeviceGetHandleByIndex(index)) for index in range(count)]


def gpu_state(nvml: Any, handle: Any) -> dict[str, Any]:
    """Return what can be read of a GPU; each value stands for itself, and may be missing with its reason."""

    def ask(function: str, *arguments: Any, scale: float = 1) -> Any:
        try:
            value = getattr(nvml, function)(handle, *arguments)
        except (nvml.NVMLError, AttributeError) as error:
            return not_read(str(error))
        if isinstance(value, bytes):
            return value.decode()
        return value if scale == 1 or isinstance(value, str) else round(value * scale, 3)

    return {
        "name": ask("nvmlDeviceGetName"),
        "sm_clock_mhz": ask("nvmlDeviceGetClockInfo", nvml.NVML_CLOCK_SM),
        "sm_clock_max_mhz": ask("nvmlDeviceGetMaxClockInfo", nvml.NVML_CLOCK_SM),
        "memory_clock_mhz": ask("nvmlDeviceGetClockInfo", nvml.NVML_CLOCK_MEM),
        "temperature_c": ask("nvmlDeviceGetTemperature", nvml.NVML_TEMPERATURE_GPU),
        "power_w": ask("nvmlDeviceGetPowerUsage", scale=1e-3),
        "power_limit_w": ask("nvmlDeviceGetEnforcedPowerLimit", scale=1e-3),
        "held_down_by": held_down_by(ask(reasons_function(nvml))),
    }


def reasons_function(nvml: Any) -> str:
    """Return the name of the call that gives the reasons: the newer one where the package has it."""
    newer = "nvmlDeviceGetCurrentClocksEventReasons"
    return newer if hasattr(nvml, newer) else "nvmlDeviceGetCurrentClocksThrottleReasons"


def held_down_by(mask: int | str) -> list[str] | str:
    """Return the names of the reasons in a bit mask; bits that NVML adds later come as numbers."""
    if isinstance(mask, str):
        return mask
    names = [name for name, bit in REASONS.items() if mask & bit]
    rest = mask & ~sum(REASONS.values())
    return names + ([f"0x{rest:x}"] if rest else [])


def throttling(gpu: dict[str, Any]) -> list[str]:
    """Return the reasons for which the clocks are held down that nobody chose: heat, power, a brake."""
    found = gpu.get("held_down_by")
    return [name for name in found if name not in HARMLESS] if isinstance(found, list) else []
