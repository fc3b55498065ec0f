from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from edgeproof_deploy.gates import Limits, at_most
from edgeproof_deploy.parity import Form, PairParity, compare_pair
from edgeproof_deploy.parity_report import github_summary, write_github, write_junit, write_parity
from edgeproof_deploy.preprocessing_parity import PreprocessingParity

ROWS = np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32)
EAGER = Form("student", "pytorch", embeddings=ROWS)
PREPROCESSING = PreprocessingParity(7, ("black",), 0.0, 0.0, None, at_most("preprocessing", 0.0, 0.0))


@pytest.fixture
def pairs() -> list[PairParity]:
    broken = Form("student", "onnxruntime", embeddings=-ROWS)
    plan = Form("student", "tensorrt_rtx", reason="built, not run here: <no> | driver")
    limits = Limits(cosine=0.99)
    return [compare_pair(EAGER, broken, limits), compare_pair(EAGER, plan, limits)]


def test_write_parity__is_read_back(pairs: list[PairParity], tmp_path: Path) -> None:
    write_parity(tmp_path / "parity.json", pairs, PREPROCESSING, {"machine": "x"})
    plain = json.loads((tmp_path / "parity.json").read_text())
    assert plain["schema_version"] == 1
    assert plain["preprocessing"]["gates"][0]["status"] == "pass"
    assert [pair["candidate"] for pair in plain["pairs"]] == ["onnxruntime fp32", "tensorrt_rtx fp32"]
    assert plain["pairs"][0]["cosine_min"] == pytest.approx(-1)
    assert plain["pairs"][0]["gates"][1] == {
        "name": "cosine",
        "value": pytest.approx(-1),
        "limit": 0.99,
        "status": "fail",
        "bound": "at least",
    }


def test_write_junit__counts_and_reasons(pairs: list[PairParity], tmp_path: Path) -> None:
    write_junit(tmp_path / "parity.xml", pairs, PREPROCESSING)
    suites = ElementTree.parse(tmp_path / "parity.xml").getroot().findall("testsuite")
    assert [(suite.get("tests"), suite.get("failures"), suite.get("skipped")) for suite in suites] == [
        ("1", "0", "0"),
        ("2", "1", "0"),
        ("1", "0", "1"),
    ]
    failure, skipped = suites[1].find("testcase/failure"), suites[2].find("testcase/skipped")
    assert failure is not None
    assert skipped is not None
    assert failure.get("message") == "pytorch fp32 -> onnxruntime fp32: cosine is -1, must be at least 0.99"
    assert skipped.get("message") == "built, not run here: <no> | driver"


def test_write_github__appends_a_table(
    pairs: list[PairParity], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary = tmp_path / "summary.md"
    summary.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    assert write_github(pairs, PREPROCESSING) == summary
    assert summary.read_text() == "before\n" + github_summary(pairs, PREPROCESSING)
    lines = [line for line in summary.read_text().splitlines() if line.startswith("|")]
    assert len({line.replace("\\|", "").count("|") for line in lines}) == 1
    assert "| pytorch fp32 -> onnxruntime fp32 | cosine | -1 | at least 0.99 | **fail** |" in lines
    assert "\\| driver" in lines[-1]


def test_write_github__prints_elsewhere(
    pairs: list[PairParity], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    assert write_github(pairs) is None
    assert "### Parity" in capsys.readouterr().out
