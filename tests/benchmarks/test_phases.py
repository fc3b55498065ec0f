from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from edgeproof_benchmarks.latency import summarise
from edgeproof_benchmarks.phases import PHASES, form_figures, images_per_second, measure_phases
from edgeproof_benchmarks.report_data import FormRow
from edgeproof_deploy.runtime.preprocess import Preprocess
from edgeproof_deploy.runtime.session import OnnxSession

ON_CPU = ("decode", "preprocess", "compute", "head")


@pytest.fixture
def session(tiny_onnx: Path) -> OnnxSession:
    return OnnxSession(tiny_onnx, threads=1)


def test_measure_phases__every_phase_of_every_image(session: OnnxSession, image_files: list[Path]):
    seen: list[np.ndarray] = []
    found = measure_phases(
        image_files,
        preprocess=Preprocess(8, 8),
        session=session,
        head=seen.append,
        seconds=0.05,
        warmup_seconds=0.02,
    )
    assert list(found) == [*ON_CPU, "total"]
    assert len({latency.n for latency in found.values()}) == 1
    assert all(embedding.shape == (1, 3) for embedding in seen)
    assert len({embedding.tobytes() for embedding in seen}) == len(image_files)
    total = sum(found[name].trace_ms for name in ON_CPU)
    np.testing.assert_allclose(total, found["total"].trace_ms)


class Copying(OnnxSession):
    """A session that tells of copies, as one on a GPU does."""

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        found = super().run(inputs)
        self.phases = {"copy_in": 0.002, "compute": 0.1, "copy_out": 0.001}
        return found


def test_measure_phases__copies_where_the_session_tells_of_them(tiny_onnx: Path, image_files: list[Path]):
    found = measure_phases(
        image_files,
        preprocess=Preprocess(8, 8),
        session=Copying(tiny_onnx, threads=1),
        head=len,
        seconds=0.03,
        warmup_seconds=0.01,
    )
    assert list(found) == [*PHASES, "total"]
    assert found["copy_in"].trace_ms.tolist() == [0.002] * found["total"].n
    total = sum(found[name].trace_ms for name in PHASES)
    np.testing.assert_allclose(total, found["total"].trace_ms)


def test_measure_phases__without_images(session: OnnxSession):
    with pytest.raises(ValueError, match="at least one image"):
        measure_phases(
            [], preprocess=Preprocess(8, 8), session=session, head=len, seconds=0.01, warmup_seconds=0.01
        )


def test_images_per_second__over_all_samples():
    assert images_per_second(summarise(np.array([10.0, 30.0]), 0.04), 8) == pytest.approx(400.0)


def test_form_figures__energy_of_one_image():
    latency = summarise(np.full(100, 2.0), 0.2, joules=1.6)
    assert form_figures({8: latency}, {}, threads=1)["millijoules"] == {"batch8": 2.0}
    assert "millijoules" not in form_figures({8: summarise(np.ones(3), 0.003)}, {}, threads=1)


def test_form_figures__are_what_a_row_of_the_report_reads():
    latency = summarise(np.full(100, 2.0), 0.2, rounds=(2.0, 2.1))
    figures = form_figures({1: latency}, dict.fromkeys((*PHASES, "total"), latency), threads=2)
    row = FormRow.from_dict({"form": "student", "engine": "onnxruntime", **figures})
    assert row.latency("p90") == 2.0
    assert row.latency_ms[1]["rounds_p50_ms"] == [2.0, 2.1]
    assert row.images_per_second == {1: 500.0}
    assert set(row.phases_ms) == set(PHASES)
    assert row.threads == 2
