"""Jetson: power mode, clocks and power as `nvpmodel -q`, `jetson_clocks --show` and `tegrastats` print them.

The formats are those of NVIDIA's Jetson Linux Developer Guide (tegrastats utility, platform power and
performance). They were written from that description and not tried on a board.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import asdict, dataclass
from typing import Any

from edgeproof_benchmarks.machine.readings import is_read, not_read, tool_text

TEGRASTATS_SECONDS = 0.7
TOTAL_RAILS = ("VDD_IN", "POM_5V_IN", "VIN")
"""Rails that carry everything; where a board has none of them, its rails are added up."""
MODE = re.compile(r"^NV Power Mode:\s*(?P<name>\S.*?)\s*$", re.MULTILINE)
POWER = re.compile(r"\b(?P<rail>[A-Z][A-Z0-9_]*) (?P<now>\d+)(?:mW)?/(?P<mean>\d+)(?:mW)?(?= |$)")
TEMPERATURE = re.compile(r"\b(?P<zone>[A-Za-z][A-Za-z0-9]*)@(?P<degrees>-?\d+(?:\.\d+)?)C")
GPU_LOAD = re.compile(r"\bGR3D_FREQ (?P<load>\d+)%(?:@\[?(?P<mhz>\d+))?")
MEMORY = re.compile(r"\bRAM (?P<used>\d+)/(?P<all>\d+)MB")
CLOCK = re.compile(
    r"^\s*(?P<unit>cpu\d+:|GPU|EMC)\s(?!.*Online=0).*?MinFreq=(?P<low>\d+)\s+MaxFreq=(?P<high>\d+)\s+CurrentFreq=(?P<now>\d+)",
    re.MULTILINE,
)


@dataclass(frozen=True)
class Tegrastats:
    """One line of `tegrastats`; power in milliwatts, temperatures in degrees Celsius, clocks in MHz."""

    milliwatts: dict[str, int]
    temperatures_c: dict[str, float]
    gpu_load_percent: int | None
    gpu_clock_mhz: int | None
    memory_mb: tuple[int, int] | None

    @property
    def watts(self) -> float | None:
        """The power of the module, or None where the line names no rail."""
        total = next((self.milliwatts[rail] for rail in TOTAL_RAILS if rail in self.milliwatts), None)
        if total is None and self.milliwatts:
            total = sum(self.milliwatts.values())
        return None if total is None else total / 1000


def parse_tegrastats(line: str) -> Tegrastats:
    """Return what a line says; of `VDD_IN 4532mW/4410mW` the first number is the power now.

    What the line does not name is missing from the answer. `SWAP 0/3810MB` and the like are no rails.
    """
    memory, gpu = MEMORY.search(line), GPU_LOAD.search(line)
    return Tegrastats(
        milliwatts={found["rail"]: int(found["now"]) for found in POWER.finditer(line)},
        temperatures_c={found["zone"]: float(found["degrees"]) for found in TEMPERATURE.finditer(line)},
        gpu_load_percent=int(gpu["load"]) if gpu else None,
        gpu_clock_mhz=int(gpu["mhz"]) if gpu and gpu["mhz"] else None,
        memory_mb=(int(memory["used"]), int(memory["all"])) if memory else None,
    )


def parse_nvpmodel(text: str) -> dict[str, Any] | str:
    """Return the power mode's `name` and `id`: `NV Power Mode: 15W` and a line with its number."""
    named = MODE.search(text)
    if named is None:
        return not_read("nvpmodel -q names no power mode")
    number = next((line for line in text[named.end() :].splitlines() if line.strip().isdigit()), None)
    return {"name": named["name"], "id": int(number) if number else not_read("nvpmodel -q gives no number")}


def parse_jetson_clocks(text: str) -> dict[str, Any] | str:
    """Return each unit's clocks as `{unit: {min, max, now}}` and whether they are `locked` to one value.

    Cores that are off are left out. As they are printed, clocks of the processor are in kHz, those of GPU and
    memory in Hz.
    """
    units = {
        found["unit"].rstrip(":"): {key: int(found[group]) for key, group in CLOCK_KEYS.items()}
        for found in CLOCK.finditer(text)
    }
    if not units:
        return not_read("jetson_clocks --show names no clock")
    # The memory's clock is fixed by an override and keeps its range.
    ranged = [clocks for unit, clocks in units.items() if unit != "EMC"]
    return {"locked": all(clocks["min"] == clocks["max"] for clocks in ranged), "units": units}


def tegrastats_now(seconds: float = TEGRASTATS_SECONDS) -> dict[str, Any] | str:
    """Return power, temperatures, GPU clock and memory of one line of `tegrastats`, which has no end."""
    program = shutil.which("tegrastats")
    if program is None:
        return not_read("there is no tegrastats")
    try:
        subprocess.run([program, "--interval", "200"], stdout=subprocess.PIPE, timeout=seconds, check=False)
        text = b""
    except subprocess.TimeoutExpired as error:
        text = error.stdout or b""
    lines = text.decode(errors="replace").splitlines()
    if not lines:
        return not_read("tegrastats prints no line")
    found = parse_tegrastats(lines[0])
    power = found.watts if found.watts is not None else not_read("tegrastats names no rail")
    return {"watts": power, **asdict(found)}


CLOCK_KEYS = {"min": "low", "max": "high", "now": "now"}


def jetson_state() -> dict[str, Any] | str:
    """Return `tegrastats`, `nvpmodel` and `jetson_clocks` of this board, or why this is none."""
    mode = tool_text("nvpmodel", "-q")
    clocks = tool_text("jetson_clocks", "--show")
    if not is_read(mode) and not is_read(clocks) and "there is no" in mode and "there is no" in clocks:
        return not_read("no Jetson: there is neither nvpmodel nor jetson_clocks")
    return {
        "tegrastats": tegrastats_now(),
        "nvpmodel": parse_nvpmodel(mode) if is_read(mode) else mode,
        "jetson_clocks": parse_jetson_clocks(clocks) if is_read(clocks) else clocks,
    }
