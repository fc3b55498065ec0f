from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.configs.small_bundle import make_bundle

from edgeproof.comparison import Side, engine_of, sentence
from edgeproof_benchmarks.latency import Ratio
from edgeproof_configs.errors import EdgeproofError

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return make_bundle(tmp_path)


def ratio_of(median: float, low: float, high: float, confidence: float = 0.96) -> Ratio:
    return Ratio(median, low, high, 20, (low, high), confidence, 400)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (ratio_of(2.0, 1.9, 2.1), "B is 2.00 times faster."),
        (ratio_of(0.5, 0.4, 0.6), "A is 2.00 times faster."),
        (ratio_of(1.1, 0.9, 1.3), "no difference that can be told from noise."),
        (ratio_of(2.0, 1.9, 2.1, confidence=0.75), "too few rounds to tell."),
    ],
)
def test_sentence__claims_what_the_interval_shows(found: Ratio, words: str):
    assert sentence(found).endswith(words)
    assert "20 rounds, n 400" in sentence(found)


def test_compare__two_files_of_a_bundle(bundle: Path, edgeproof: Run):
    given = [bundle / "model.onnx", bundle / "model.int8.onnx"]
    code, out, err = edgeproof("bench", "--compare", *given, "--seconds", 0.2, "--threads", 1, "--json")
    assert (code, err) == (0, "")
    told = json.loads(out)
    assert told["a_over_b"]["median"] > 1
    assert told["a_over_b"]["interval"][0] <= told["a_over_b"]["median"] <= told["a_over_b"]["interval"][1]
    assert told["a_over_b"]["confidence"] >= 0.95
    assert [told["sides"][letter]["model"] for letter in "AB"] == ["model.onnx", "model.int8.onnx"]
    assert told["sides"]["A"]["latency_ms"]["n"] >= 20


def test_compare__a_bundle_with_a_batch(bundle: Path, edgeproof: Run):
    code, out, err = edgeproof("bench", "--compare", bundle, bundle, "--seconds", 0.1, "--batch", 3)
    assert (code, err) == (0, "")
    assert "image (3, 3, 16, 16)" in out
    assert "A / B = " in out
    assert out.splitlines()[-1].startswith("not official: ")


def test_compare__an_engine_that_is_not_here(bundle: Path, edgeproof: Run):
    code, _, err = edgeproof("bench", "--compare", bundle, f"{bundle}@onnxruntime_tensorrt")
    assert code in (0, 5)
    assert code == 0 or len(err.splitlines()) <= 3


@pytest.mark.parametrize(
    ("engine", "words"),
    [
        ("pytorch", "engine pytorch runs the student itself, which no bundle holds: name its run"),
        ("pytorhc", "Did you mean 'pytorch'?"),
    ],
)
def test_compare__an_engine_that_runs_no_bundle(bundle: Path, edgeproof: Run, engine: str, words: str):
    code, out, err = edgeproof("bench", "--compare", f"{bundle}@{engine}", bundle)
    assert (code, out) == (2, "")
    assert words in err


def test_side__a_place_whose_name_has_an_at(tmp_path: Path):
    place = tmp_path / "me@home"
    place.mkdir()
    assert Side.read(str(place)) == Side(place, "")
    assert Side.read(f"{place}@openvino") == Side(place, "openvino")


def test_engine_of__a_plan_tells_it_beside_itself(tmp_path: Path):
    plan = tmp_path / "a.engine"
    plan.write_bytes(b"plan")
    with pytest.raises(EdgeproofError, match=r"has no .json that says"):
        engine_of(plan)
    plan.with_suffix(".json").write_text("[1]")
    with pytest.raises(EdgeproofError, match=r"has no .json that says"):
        engine_of(plan)
    plan.with_suffix(".json").write_text(json.dumps({"engine": "tensorrt_rtx"}))
    assert engine_of(plan) == "tensorrt_rtx"
    assert engine_of(tmp_path / "m.onnx") == "onnxruntime"
