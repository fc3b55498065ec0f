from __future__ import annotations

from typing import Any

import numpy as np
from tests.benchmarks.page import Page

from edgeproof_benchmarks.latency import summarise
from edgeproof_benchmarks.machine.conditions import Watch
from edgeproof_benchmarks.report import render_report
from edgeproof_benchmarks.report_data import report_data
from edgeproof_benchmarks.sections.machine import flat

CONDITIONS = {
    "before": {"at": "noon", "processor": {"model": "An invented one", "load_average": [0.25, 1.0, 2.0]}},
    "after": {"at": "later", "processor": {"model": "An invented one"}, "gpus": [{"sm_clock_mhz": 1410}]},
    "cpu_time": {"own": 0.9, "others": 0.06},
    "energy": "not read: no counter",
    "official": False,
    "reasons": ["other processes used 6 % of the cores' time"],
}


def page(made_up: Any, **changed: Any) -> Page:
    result = made_up.result(bench_conditions=CONDITIONS | changed)
    return Page(render_report(report_data(result)))


def test_machine__says_why_figures_are_not_official(made_up: Any) -> None:
    text = page(made_up).text
    for words in (
        "not official",
        "other processes used 6 %",
        "processor.load_average",
        "0.25, 1, 2",
        "gpus.0.sm_clock_mhz",
        "1410",
        "own 90 %, others 6 %",
        "not read: no counter",
    ):
        assert words in text, words


def test_machine__official_has_no_reasons(made_up: Any) -> None:
    text = page(made_up, official=True, reasons=[]).text
    assert "not official" not in text
    assert "official" in text


def test_machine__what_is_recorded_here_can_be_shown(made_up: Any) -> None:
    watch = Watch()
    found = watch.end({"call": summarise(np.linspace(1, 2, 100), 1.0)}, "not read: why")
    text = Page(render_report(report_data(made_up.result(bench_conditions=found)))).text
    assert "MLPerf asks for 600 s" in text
    assert "processor.governor" in text


def test_machine__absent_in_runs_from_before(made_up: Any) -> None:
    assert "Conditions of the measurement" not in Page(render_report(report_data(made_up.result()))).text


def test_flat__joins_names_and_single_values() -> None:
    plain = {"a": {"b": 1.23456, "c": None}, "d": [1, 2], "e": [{"f": True}, "x"], "g": []}
    assert flat(plain) == {"a.b": "1.235", "d": "1, 2", "e.0.f": "yes", "e.1": "x"}
