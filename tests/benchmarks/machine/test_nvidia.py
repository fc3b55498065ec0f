from __future__ import annotations

from typing import Any

import pytest
from tests.benchmarks.machine.stand_in import FakeNvml

from edgeproof_benchmarks.machine.nvidia import REASONS, gpu_states, held_down_by, load_nvml, throttling


def one_gpu(nvml: Any) -> dict[str, Any]:
    found = gpu_states(nvml)
    assert isinstance(found, list)
    return found[0]


def test_gpu_states__clocks_power_and_reasons_in_plain_units():
    nvml = FakeNvml()
    nvml.mask = 0x1 | 0x20 | 0x10000
    gpu = one_gpu(nvml)
    assert gpu["name"] == "An invented GPU"
    assert (gpu["sm_clock_mhz"], gpu["memory_clock_mhz"], gpu["temperature_c"]) == (1980, 2619, 41)
    assert (gpu["power_w"], gpu["power_limit_w"]) == (123.456, 700.0)
    assert gpu["held_down_by"] == ["gpu_idle", "sw_thermal_slowdown", "0x10000"]
    assert throttling(gpu) == ["sw_thermal_slowdown", "0x10000"]


def test_gpu_states__what_a_gpu_does_not_tell_is_not_zero():
    gpu = one_gpu(FakeNvml(missing=("nvmlDeviceGetPowerUsage", "nvmlDeviceGetCurrentClocksEventReasons")))
    assert gpu["power_w"] == "not read: Not Supported"
    assert gpu["held_down_by"] == "not read: Not Supported"
    assert throttling(gpu) == []
    assert gpu["temperature_c"] == 41


def test_gpu_states__no_gpu():
    assert gpu_states(FakeNvml(count=0)) == "not read: NVML finds no GPU"
    assert gpu_states("not read: why") == "not read: why"


def test_reasons__are_the_bits_of_the_package():
    pynvml = pytest.importorskip("pynvml")
    names = {
        "gpu_idle": "GpuIdle",
        "applications_clocks_setting": "ApplicationsClocksSetting",
        "sw_power_cap": "SwPowerCap",
        "hw_slowdown": "HwSlowdown",
        "sync_boost": "SyncBoost",
        "sw_thermal_slowdown": "SwThermalSlowdown",
        "hw_thermal_slowdown": "HwThermalSlowdown",
        "hw_power_brake_slowdown": "HwPowerBrakeSlowdown",
        "display_clock_setting": "DisplayClockSetting",
    }
    theirs = {ours: getattr(pynvml, f"nvmlClocksThrottleReason{name}") for ours, name in names.items()}
    assert theirs == REASONS


def test_held_down_by__several_bits():
    assert held_down_by(0) == []
    assert held_down_by(0x4 | 0x80) == ["sw_power_cap", "hw_power_brake_slowdown"]


def test_load_nvml__a_module_or_the_reason():
    found = load_nvml()
    assert hasattr(found, "nvmlDeviceGetCount") or found.startswith("not read: ")
