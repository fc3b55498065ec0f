from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgeproof_benchmarks.report_data import FormRow, load_report_data, report_data
from edgeproof_configs.errors import EdgeproofError


def write_run(folder: Path, made_up: Any) -> Path:
    (folder / "verify").mkdir()
    (folder / "result.json").write_text(json.dumps(made_up.result()))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in made_up.metrics(2)))
    (folder / "verify" / "confusion.json").write_text(json.dumps(made_up.confusion(6)))
    (folder / "verify" / "examples.json").write_text(json.dumps(made_up.examples(3)))
    (folder / "verify" / "per_class.json").write_text(json.dumps(made_up.per_class(6)))
    (folder / "verify" / "calibration.json").write_text(json.dumps(made_up.calibration()))
    (folder / "verify" / "embedding.json").write_text(json.dumps(made_up.embedding(6, 30)))
    return folder


def test_load_report_data__reads_every_file(tmp_path: Path, made_up: Any):
    data = load_report_data(write_run(tmp_path, made_up))
    assert [row.name for row in data.rows] == [
        "teacher",
        "PyTorch fp32",
        "ONNX Runtime fp32",
        "TensorRT-RTX fp32",
    ]
    assert data.rows[2].latency("p50", batch=8) == 11.4
    assert data.confusion is not None
    assert data.confusion.matrix.sum() == 72
    assert len(data.metrics) == 6
    assert [example.right for example in data.examples] == [True, True, False]
    assert data.corrupt_total == 1
    assert len(data.classes) == 6
    assert data.calibration is not None
    assert data.space is not None


def test_load_report_data__older_runs_have_fewer_files(tmp_path: Path, made_up: Any):
    run = write_run(tmp_path, made_up)
    for name in ("per_class", "calibration", "embedding"):
        (run / "verify" / f"{name}.json").unlink()
    data = load_report_data(run)
    assert (data.classes, data.calibration, data.space) == ((), None, None)


def test_load_report_data__without_a_result_says_what_to_run(tmp_path: Path):
    with pytest.raises(EdgeproofError, match=r"no result\.json"):
        load_report_data(tmp_path)


def test_load_report_data__cut_file(tmp_path: Path, made_up: Any):
    run = write_run(tmp_path, made_up)
    text = (run / "verify" / "confusion.json").read_text()
    (run / "verify" / "confusion.json").write_text(text[: len(text) // 2])
    with pytest.raises(EdgeproofError, match="not a readable JSON file"):
        load_report_data(run)


def test_report_data__other_schema_version_is_refused(made_up: Any):
    with pytest.raises(EdgeproofError, match="schema version 2"):
        report_data(made_up.result(schema_version=2))


def test_report_data__matrix_must_fit_its_labels(made_up: Any):
    confusion = made_up.confusion(4)
    confusion["labels"].pop()
    with pytest.raises(EdgeproofError, match="expected 3 x 3"):
        report_data(made_up.result(), confusion=confusion)


@pytest.mark.parametrize(
    "corrupt", [[["a.jpg", "cut"]], [["train", "a.jpg", "cut"]], [{"path": "a.jpg", "reason": "cut"}]]
)
def test_report_data__skipped_images_in_every_listing(made_up: Any, corrupt: list[Any]):
    data = report_data(made_up.result(data={"counts": {}, "corrupt": corrupt}))
    assert data.corrupt == ({"path": "a.jpg", "reason": "cut"},)


def test_form_row__cosine_mean_is_the_cosine_and_none_is_left_out():
    row = FormRow.from_dict(
        {"form": "student", "engine": "onnxruntime", "metrics": {"cosine_mean": 0.9, "top1": None}}
    )
    assert row.metrics == {"cosine": 0.9}
    assert row.latency("p50") is None
