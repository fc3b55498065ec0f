"""The sample lines are written by hand after NVIDIA's description of the formats: no board printed them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgeproof_benchmarks.machine.jetson import (
    jetson_state,
    parse_jetson_clocks,
    parse_nvpmodel,
    parse_tegrastats,
    tegrastats_now,
)

ORIN_NANO = (
    "11-21-2026 10:00:00 RAM 2564/7620MB (lfb 5x4MB) SWAP 12/3810MB (cached 1MB) "
    "CPU [3%@1510,0%@1510,12%@1510,off,off,1%@1510] EMC_FREQ 2%@2133 GR3D_FREQ 97%@[624] NVDEC off "
    "cpu@45.5C soc2@44.312C gpu@46C tj@46C VDD_IN 6532mW/4410mW "
    "VDD_CPU_GPU_CV 2549mW/549mW VDD_SOC 1419mW/1400mW"
)
NANO = (
    "RAM 1689/3956MB (lfb 339x4MB) SWAP 0/1978MB (cached 0MB) IRAM 0/252kB(lfb 252kB) "
    "CPU [3%@345,off,off,0%@345] EMC_FREQ 0% GR3D_FREQ 0% PLL@50.5C CPU@-1.5C "
    "POM_5V_IN 2086/2100 POM_5V_GPU 40/41 POM_5V_CPU 325/330"
)
AGX = "RAM 4000/30536MB (lfb 1x1MB) GR3D_FREQ 55%@[1300,1300] VDD_GPU_SOC 3000mW/1mW VDD_CPU_CV 500mW/1mW"

CLOCKS = """\
SOC family:tegra234  Machine:NVIDIA Jetson Orin Nano Developer Kit
Online CPUs: 0-1
cpu0: Online=1 Governor=schedutil MinFreq={low} MaxFreq=1510400 CurrentFreq=1510400 IdleStates: WFI=0 c7=0
cpu1: Online=1 Governor=schedutil MinFreq={low} MaxFreq=1510400 CurrentFreq=1510400 IdleStates: WFI=0 c7=0
cpu2: Online=0 Governor=schedutil MinFreq=729600 MaxFreq=1510400 CurrentFreq=729600 IdleStates: WFI=1 c7=1
GPU MinFreq=624750000 MaxFreq=624750000 CurrentFreq=624750000
EMC MinFreq=204000000 MaxFreq=2133000000 CurrentFreq=2133000000 FreqOverride=1
FAN Dynamic Speed Control=nvfancontrol hwmon0_pwm1=255
NV Power Mode: 15W
"""


def test_parse_tegrastats__one_rail_carries_everything():
    found = parse_tegrastats(ORIN_NANO)
    assert found.watts == 6.532
    assert found.milliwatts == {"VDD_IN": 6532, "VDD_CPU_GPU_CV": 2549, "VDD_SOC": 1419}
    assert (found.gpu_load_percent, found.gpu_clock_mhz) == (97, 624)
    assert found.memory_mb == (2564, 7620)
    assert found.temperatures_c == {"cpu": 45.5, "soc2": 44.312, "gpu": 46.0, "tj": 46.0}


def test_parse_tegrastats__older_lines_have_no_unit_and_no_clock():
    found = parse_tegrastats(NANO)
    assert found.watts == 2.086
    assert set(found.milliwatts) == {"POM_5V_IN", "POM_5V_GPU", "POM_5V_CPU"}
    assert (found.gpu_load_percent, found.gpu_clock_mhz) == (0, None)
    assert found.temperatures_c["CPU"] == -1.5


def test_parse_tegrastats__without_a_total_the_rails_are_added():
    found = parse_tegrastats(AGX)
    assert found.watts == 3.5
    assert found.gpu_clock_mhz == 1300


@pytest.mark.parametrize("line", ["", "what is this", "RAM /MB VDD_IN mW/mW", "SWAP 1/2MB"])
def test_parse_tegrastats__what_is_not_there_is_missing(line: str):
    found = parse_tegrastats(line)
    assert (found.watts, found.gpu_load_percent, found.memory_mb) == (None, None, None)


def test_parse_nvpmodel__name_and_number():
    assert parse_nvpmodel("NV Fan Mode:quiet\nNV Power Mode: MAXN_SUPER\n2\n") == {
        "name": "MAXN_SUPER",
        "id": 2,
    }
    assert parse_nvpmodel("NVPM WARN: fan mode is not set!\nNV Power Mode: 15W\n0\n") == {
        "name": "15W",
        "id": 0,
    }
    assert str(parse_nvpmodel("NV Power Mode: 15W\n")["id"]).startswith("not read")  # type: ignore[index]
    assert str(parse_nvpmodel("usage: nvpmodel")).startswith("not read: nvpmodel -q names no power mode")


@pytest.mark.parametrize(("low", "locked"), [("1510400", True), ("729600", False)])
def test_parse_jetson_clocks__locked_where_no_running_unit_has_a_range(low: str, locked: bool):
    found = parse_jetson_clocks(CLOCKS.format(low=low))
    assert isinstance(found, dict)
    assert found["locked"] is locked
    assert set(found["units"]) == {"cpu0", "cpu1", "GPU", "EMC"}
    assert found["units"]["GPU"] == {"min": 624750000, "max": 624750000, "now": 624750000}


def test_parse_jetson_clocks__other_text():
    assert str(parse_jetson_clocks("Error: run me as root")).startswith("not read")


def test_tegrastats_now__a_program_that_prints_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert tegrastats_now() == "not read: there is no tegrastats"
    tool(tmp_path, "tegrastats", "exit 1")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert tegrastats_now(0.5) == "not read: tegrastats prints no line"


def tool(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def test_jetson_state__asks_the_tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert str(jetson_state()).startswith("not read: no Jetson")
    tool(tmp_path, "nvpmodel", "printf 'NV Power Mode: 15W\\n1\\n'")
    tool(tmp_path, "jetson_clocks", "echo 'please run with sudo' >&2; exit 1")
    tool(tmp_path, "tegrastats", f"while true; do echo '{ORIN_NANO}'; sleep 0.1; done")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    found = jetson_state()
    assert isinstance(found, dict)
    assert found["nvpmodel"] == {"name": "15W", "id": 1}
    assert (found["tegrastats"]["watts"], found["tegrastats"]["gpu_clock_mhz"]) == (6.532, 624)
    assert found["jetson_clocks"] == "not read: jetson_clocks --show ends with 1: please run with sudo"
