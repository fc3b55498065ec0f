from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.configs.small_bundle import PAIRS, make_bundle, pair

from edgeproof.accuracies import Score, scores_of_pairs
from edgeproof.advise import score_of
from edgeproof_deploy.bundle_models import Model

Run = Callable[..., tuple[int, str, str]]
FAILED = [{"name": "agreement", "status": "fail", "value": 0.5, "limit": 0.95, "bound": "at least"}]


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return make_bundle(tmp_path)


def advice(edgeproof: Run, place: Path, *arguments: object) -> tuple[int, dict[str, Any]]:
    given = ["--seconds", 0.2, "--threads", 1, "--engine", "onnxruntime", "--json"]
    code, out, err = edgeproof("advise", place, *given, *arguments)
    assert err == ""
    return code, json.loads(out)


def test_advise__the_fast_form_where_it_may_lose_as_much(bundle: Path, edgeproof: Run):
    code, told = advice(edgeproof, bundle, "--max-drop", 0.02, "--max-latency-ms", 1000)
    assert code == told["exit_code"] == 0
    assert told["ship"] is not None
    assert told["ship"].endswith("int8")
    assert "88.5 % top-1, 1.50 points below the fp32 student (2 allowed" in told["sentence"]
    assert told["models"]["onnxruntime int8"]["interval"] == pytest.approx([0.005, 0.025])


def test_advise__the_exact_form_under_a_small_budget(bundle: Path, edgeproof: Run):
    code, told = advice(edgeproof, bundle, "--max-drop", 0.01)
    assert code == 0
    assert told["ship"].endswith("fp32")
    assert told["models"]["onnxruntime int8"]["fits"] is False
    assert told["models"]["onnxruntime int8"]["reasons"] == ["loses 1.50 points, 1 are allowed"]


def test_advise__nothing_is_accurate_enough(tmp_path: Path, edgeproof: Run):
    pairs = [PAIRS[0], pair("onnxruntime fp32", 0.9, gates=FAILED), PAIRS[2]]
    code, told = advice(edgeproof, make_bundle(tmp_path, pairs), "--max-drop", 0.01)
    assert code == told["exit_code"] == 3
    assert told["ship"] is None
    assert told["models"]["onnxruntime fp32"]["reasons"] == ["failed agreement"]
    assert told["sentence"].startswith("Nothing is accurate enough: the best, ONNX Runtime fp32, failed")


def test_advise__nothing_accurate_is_fast_enough(bundle: Path, edgeproof: Run):
    code, told = advice(edgeproof, bundle, "--max-latency-ms", 1e-6)
    assert code == told["exit_code"] == 4
    assert told["ship"] is None
    assert told["sentence"].startswith("Nothing that is accurate enough is fast enough: the fastest, ")


def test_advise__unknown_accuracy_does_not_fit(tmp_path: Path, edgeproof: Run):
    code, told = advice(edgeproof, make_bundle(tmp_path, pairs=[]))
    assert code == 3
    assert told["sentence"] == "Nothing is known to be accurate enough: its accuracy was not measured."


def test_advise__a_table_and_one_sentence(bundle: Path, edgeproof: Run):
    code, out, err = edgeproof("advise", bundle, "--seconds", 0.1, "--threads", 1, "--max-drop", 0.02)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].split()[:3] == ["model", "top-1", "drop"]
    assert sum(line.startswith("Ship ") for line in lines) == 1
    assert lines[-1].startswith("not official: ")


def test_advise__a_run_is_judged_by_its_result(tmp_path: Path, edgeproof: Run):
    bundle = make_bundle(tmp_path)
    rows = [{"parity": [PAIRS[0]]}, {"parity": [pair("onnxruntime fp32", 0.6)]}, {"parity": None}]
    (tmp_path / "result.json").write_text(json.dumps({"rows": rows}))
    assert advice(edgeproof, bundle)[0] == 0
    assert advice(edgeproof, tmp_path)[0] == 3


@pytest.mark.parametrize("arguments", [["--max-drop", "2"], ["--max-drop", "-1"], ["--seconds", "0"]])
def test_advise__limits_that_make_no_sense(arguments: list[str], bundle: Path, edgeproof: Run):
    assert edgeproof("advise", bundle, *arguments)[0] == 2


def test_scores__failures_in_pytorch_count_for_what_was_exported():
    quantised = pair("pytorch int8", 0.88, gates=FAILED)
    found = scores_of_pairs([*PAIRS, quantised])
    assert found["onnxruntime int8"].failed == ("agreement",)
    assert found["onnxruntime fp32"].failed == ()


def test_scores__gates_whose_place_the_budget_takes_do_not_count():
    gates = [{"name": "zero_shot_drop", "status": "fail"}, {"name": "cosine", "status": "not measured"}]
    found = scores_of_pairs([PAIRS[0], pair("onnxruntime fp32", 0.8, gates=gates)])
    assert found["onnxruntime fp32"].failed == ()
    assert found["onnxruntime fp32"].why_not(0.01) == "loses 10.00 points, 1 are allowed"


def test_scores__against_the_fp32_student_whatever_the_pair_s_reference():
    found = scores_of_pairs(
        [PAIRS[0], pair("sparse onnxruntime fp32", 0.87, reference="sparse pytorch fp32")]
    )
    score = found["sparse onnxruntime fp32"]
    assert score.drop == pytest.approx(0.03)
    assert score.interval is None


def test_scores__without_labels_decisions_count():
    plain = {"reference": "pytorch fp32", "candidate": "onnxruntime int8", "n": 9, "gates": []}
    found = scores_of_pairs([plain | {"top1_agreement": 0.97}])["onnxruntime int8"]
    assert found.drop == pytest.approx(0.03)
    assert found.words(0.05) == "3.00 % of its decisions differ from the fp32 student's (5 allowed)"
    assert scores_of_pairs([plain])["onnxruntime int8"].why_not(1.0) == "its accuracy was not measured"


def test_scores__a_form_that_was_only_built_has_none():
    assert scores_of_pairs([{"reference": "a", "candidate": "tensorrt fp32", "n": 0, "gates": []}]) == {}


def test_score_of__another_engine_stands_in_and_is_named():
    scores = {"pytorch int8": Score(0.9, 0.0), "sparse onnxruntime int8": Score(0.7, 0.2)}
    scores |= {"onnxruntime int8": Score(0.89, 0.01)}
    found = score_of(Model("model.int8.onnx", "student", "int8", "openvino"), scores)
    assert (found.top1, found.borrowed_from) == (0.89, "onnxruntime int8")
    assert score_of(Model("model.onnx", "student", "fp32", "openvino"), scores) == Score()
    assert score_of(Model("m", "student", "int8", "onnxruntime"), scores).borrowed_from == ""
