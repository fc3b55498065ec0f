from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgeproof_benchmarks.machine.processor import (
    CpuTimes,
    cpu_times,
    frequency_mhz,
    governor,
    processor_state,
    shares,
)


@pytest.fixture
def system(tmp_path: Path) -> Path:
    for core, (mode, khz) in enumerate([("performance", 2_000_000), ("schedutil", 3_000_000)]):
        folder = tmp_path / f"cpu{core}" / "cpufreq"
        folder.mkdir(parents=True)
        (folder / "scaling_governor").write_text(f"{mode}\n")
        (folder / "scaling_cur_freq").write_text(f"{khz}\n")
    return tmp_path


def test_governor__of_every_core(system: Path, tmp_path: Path):
    assert governor(system) == "performance, schedutil"
    assert governor(tmp_path / "none").startswith("not read: this system shows no governor")


def test_frequency__cpufreq_before_cpuinfo(system: Path, tmp_path: Path):
    proc = tmp_path / "proc"
    proc.mkdir()
    (proc / "cpuinfo").write_text("processor : 0\ncpu MHz\t\t: 1500.0\nprocessor : 1\ncpu MHz\t\t: 1700.0\n")
    expected = {"min": 2000.0, "mean": 2500.0, "max": 3000.0, "source": "cpufreq"}
    assert frequency_mhz(system, proc) == expected
    found = frequency_mhz(tmp_path / "none", proc)
    assert found == {"min": 1500.0, "mean": 1600.0, "max": 1700.0, "source": "/proc/cpuinfo"}
    assert str(frequency_mhz(tmp_path / "none", tmp_path / "none")).startswith("not read: ")


def test_cpu_times__of_a_hand_written_stat(tmp_path: Path):
    (tmp_path / "stat").write_text("cpu  100 10 20 900 50 1 2 30 0 0\ncpu0 1 2 3\ncpu1 1 2 3\nintr 5\n")
    found = cpu_times(tmp_path)
    assert isinstance(found, CpuTimes)
    ticks = os.sysconf("SC_CLK_TCK")
    assert (found.busy, found.stolen, found.cores) == (133 / ticks, 30 / ticks, 2)
    assert str(cpu_times(tmp_path / "none")).startswith("not read: ")


def test_shares__of_all_cores_time():
    before = CpuTimes(at=10.0, busy=100.0, own=4.0, stolen=1.0, cores=2)
    after = CpuTimes(at=20.0, busy=115.0, own=13.0, stolen=1.2, cores=2)
    assert shares(before, after) == {"own": 0.45, "others": 0.3, "stolen": 0.01}
    assert shares("not read: why", after) == "not read: why"
    assert shares(before, before) == "not read: no time has passed"


def test_processor_state__of_this_machine():
    found = processor_state()
    assert found["cores"] >= 1
    assert set(found) == {"model", "cores", "governor", "frequency_mhz", "load_average"}
