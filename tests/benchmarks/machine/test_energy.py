from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.benchmarks.machine.stand_in import FakeNvml

from edgeproof_benchmarks.machine.energy import (
    NvmlMeter,
    RaplMeter,
    SampledMeter,
    find_meter,
    ina_meter,
    ina_rails,
    joules_or_reason,
    meters_of,
    on_gpu,
    tegrastats_meter,
)
from edgeproof_deploy.runtime.session import OnnxSession


def write(folder: Path, **values: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in values.items():
        (folder / name).write_text(f"{value}\n")
    return folder


@pytest.fixture
def powercap(tmp_path: Path) -> Path:
    zones = {"intel-rapl:0": "package-0", "intel-rapl:1": "package-1", "intel-rapl:0:0": "core"}
    for zone, name in zones.items():
        write(tmp_path / zone, name=name, energy_uj=1_000_000, max_energy_range_uj=10_000_000)
    return tmp_path


def test_rapl__packages_are_added_and_their_parts_are_not(powercap: Path):
    meter = RaplMeter(powercap)
    assert meter.source == "RAPL package-0, package-1"
    assert meter.joules() == 0.0
    for zone in ("intel-rapl:0", "intel-rapl:1", "intel-rapl:0:0"):
        write(powercap / zone, energy_uj=3_500_000)
    assert meter.joules() == pytest.approx(5.0)


def test_rapl__a_counter_that_wraps_around(powercap: Path):
    write(powercap / "intel-rapl:0", energy_uj=9_000_000)
    meter = RaplMeter(powercap)
    write(powercap / "intel-rapl:0", energy_uj=500_000)
    assert meter.joules() == pytest.approx(1.5)
    write(powercap / "intel-rapl:0", energy_uj=700_000)
    assert meter.joules() == pytest.approx(1.7)


def test_rapl__without_zones(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="no RAPL zone"):
        RaplMeter(tmp_path)


def test_nvml__millijoules_of_the_board():
    nvml = FakeNvml()
    meter = NvmlMeter(nvml)
    before = meter.joules()
    nvml.energy_mj += 2500
    assert meter.joules() - before == pytest.approx(2.5)


def test_nvml__a_gpu_without_a_counter_or_no_gpu():
    with pytest.raises(RuntimeError, match="Not Supported"):
        NvmlMeter(FakeNvml(missing=("nvmlDeviceGetTotalEnergyConsumption",)))
    with pytest.raises(RuntimeError, match="no driver"):
        NvmlMeter("not read: no driver")


def test_sampled_meter__power_over_time():
    now, turn, taken = [100.0], threading.Semaphore(0), threading.Semaphore(0)

    def watts() -> Iterator[float]:
        for power in (10.0, 20.0, 20.0):
            yield power
            taken.release()
            turn.acquire()

    meter = SampledMeter(watts(), "made up", clock=lambda: now[0], stop=turn.release)
    for second in (1.0, 2.0):
        taken.acquire()
        now[0] = 100.0 + second
        turn.release()
    taken.acquire()
    assert meter.joules() == pytest.approx(15 + 20)
    now[0] += 0.5
    assert meter.joules() == pytest.approx(15 + 20 + 10)
    meter.close()
    assert not meter.thread.is_alive()


@pytest.fixture
def hwmon(tmp_path: Path) -> Path:
    write(tmp_path / "hwmon0", name="coretemp", in1_label="VDD_IN", in1_input=1, curr1_input=1)
    names = {"in1_label": "VDD_GPU", "in2_label": "VDD_CPU", "in7_label": "sum of shunt voltages"}
    write(tmp_path / "hwmon1", name="ina3221", **names)
    write(tmp_path / "hwmon1", in1_input=5000, curr1_input=800, in2_input=5000, curr2_input=200)
    return tmp_path


def test_ina__rails_with_voltage_and_current(hwmon: Path):
    assert set(ina_rails(hwmon)) == {"VDD_GPU", "VDD_CPU"}
    write(hwmon / "hwmon1", in3_label="VDD_IN", in3_input=5000, curr3_input=1600)
    assert set(ina_rails(hwmon)) == {"VDD_IN"}


def test_ina__watts(hwmon: Path):
    meter = ina_meter(hwmon, every=0.001)
    assert meter.source == "INA3221 VDD_GPU, VDD_CPU"
    assert meter.power == pytest.approx(5.0)
    before = meter.joules()
    time.sleep(0.01)
    assert meter.joules() > before
    meter.close()
    assert not meter.thread.is_alive()


def test_ina__no_sensor(tmp_path: Path):
    with pytest.raises(RuntimeError, match="no INA3221"):
        ina_meter(tmp_path)


def test_tegrastats__its_lines_are_read_and_it_is_ended(tmp_path: Path):
    program = tmp_path / "tegrastats"
    program.write_text("#!/bin/sh\nwhile true; do echo 'RAM 1/2MB VDD_IN 4000mW/1mW'; sleep 0.02; done\n")
    program.chmod(0o755)
    meter = tegrastats_meter(str(program))
    assert meter.power == 4.0
    meter.close()
    assert not meter.thread.is_alive()


def test_tegrastats__without_power(tmp_path: Path):
    program = tmp_path / "tegrastats"
    program.write_text("#!/bin/sh\necho 'RAM 1/2MB'\nsleep 0.2\n")
    program.chmod(0o755)
    with pytest.raises(RuntimeError, match="gives no power"):
        tegrastats_meter(str(program))


def test_find_meter__is_a_meter_or_says_why_not():
    for uses_gpu in (False, True):
        found = find_meter(uses_gpu)
        if isinstance(found, str):
            assert found.startswith("not read: ")
            assert "no INA3221" in found
        else:
            assert found.joules() >= 0
            found.close()
        assert joules_or_reason(found)


class Session(OnnxSession):
    def __init__(self, provider: str):
        self.providers = (provider,)


@pytest.mark.parametrize(
    ("provider", "expected"),
    [
        ("CPUExecutionProvider", False),
        ("OpenVINO CPU", False),
        ("torch cpu", False),
        ("TensorrtExecutionProvider", True),
        ("TensorRT-RTX", True),
        ("torch cuda", True),
    ],
)
def test_on_gpu__by_what_a_session_says_of_itself(provider: str, expected: bool):
    assert on_gpu(Session(provider)) == expected


def test_meters_of__one_a_device_and_in_words():
    with ExitStack() as stack:
        meters, words = meters_of({"a": Session("CPUExecutionProvider"), "b": Session("torch cpu")}, stack)
        assert set(meters) in (set(), {"a", "b"})
        assert words.startswith("not read: ") == (not meters)
