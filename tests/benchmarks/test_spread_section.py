from __future__ import annotations

from typing import Any

import numpy as np
from tests.benchmarks.page import Page

from edgeproof_benchmarks.formats import MISSING
from edgeproof_benchmarks.report import render_report
from edgeproof_benchmarks.report_data import ReportData, report_data

STREAMS = {
    "1": {"images_per_second": 4321.0, "latency_ms": {"p90": 0.31}},
    "2": {"images_per_second": 64.25, "latency_ms": {"p90": None}},
}


def with_samples(made_up: Any, count: int = 500, **row: Any) -> ReportData:
    result = made_up.result()
    ours = next(one for one in result["rows"] if one["engine"] == "onnxruntime")
    ours |= row
    ours["latency_ms"]["batch1"] |= {"cov": 0.217}
    key = f"{ours['form']}/{ours['engine']}/{ours.get('precision', 'fp32')}/batch1"
    trace = 1.9 * np.exp(0.1 * np.random.default_rng(0).normal(size=count))
    return report_data(result, traces={key: trace})


def test_spread__draws_samples_and_counts_streams(made_up: Any) -> None:
    page = Page(render_report(with_samples(made_up, streams=STREAMS, memory_bytes=15_500_000)))
    for words in (
        "Spread of latency",
        "n = 500",
        "2 streams, images/s (p90)",
        "4,321 (0.31 ms)",
        f"64.2 ({MISSING})",
        "0.22",
        "15.5 MB",
    ):
        assert words in page.text, words
    assert "GPU memory" not in page.text
    assert "mJ an image" not in page.text


def test_spread__energy_and_memory_of_a_gpu_where_they_were_read(made_up: Any) -> None:
    data = with_samples(made_up, streams=STREAMS, gpu_memory_bytes=512_000_000)
    row = next(one for one in data.rows if one.streams)
    dict_of = row.latency_ms[1]
    assert isinstance(dict_of, dict)
    dict_of["millijoules"] = 3.14159
    text = Page(render_report(data)).text
    assert "512 MB" in text
    assert "3.14" in text


def test_spread__too_few_samples_have_no_shape(made_up: Any) -> None:
    assert "distribution of latency" not in Page(render_report(with_samples(made_up, count=19))).text
    assert "distribution of latency" in Page(render_report(with_samples(made_up, count=20))).text


def test_spread__absent_where_nothing_was_kept(made_up: Any) -> None:
    result = made_up.result()
    for row in result["rows"]:
        row.pop("memory_bytes", None)
    assert "Spread of latency" not in Page(render_report(report_data(result))).text


def test_phases__copies_to_a_device_stand_where_they_happen(made_up: Any) -> None:
    phases = {
        "decode": 0.5,
        "preprocess": 0.25,
        "compute": 1.0,
        "head": 0.1,
        "copy_in": 0.07,
        "copy_out": 0.03,
    }
    text = Page(render_report(with_samples(made_up, phases_ms=phases))).text
    names = ("decode 0.50", "preprocess 0.25", "copy in 0.070", "compute 1.00", "copy out 0.030", "head 0.10")
    places = [text.index(name) for name in names]
    assert places == sorted(places)
