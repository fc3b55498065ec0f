from __future__ import annotations

import random
from pathlib import Path

import pytest

from edgeproof_deploy.claims import Claim
from edgeproof_deploy.gates import at_least
from edgeproof_deploy.github_summary import cell, error_commands, escaped, github_summary, write_github
from edgeproof_deploy.parity_report import Judged, Parity

PARITY = Parity(
    [
        Judged("pytorch fp32 -> onnxruntime fp32", [at_least("cosine", -1.0, 0.99)]),
        Judged("student -> plan", [at_least("agreement", None, 0.9)], "built, not run here: <no> | driver"),
    ],
    [Claim("onnxruntime fp16", "half precision", "refuted", "0 of 20 layers")],
)


def test_write_github__appends_a_table_and_prints_the_failures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = tmp_path / "summary.md"
    summary.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    assert write_github(PARITY, "a bundle") == summary
    assert summary.read_text() == "before\n" + github_summary(PARITY, "a bundle")
    assert "### a bundle" in summary.read_text()
    lines = [line for line in summary.read_text().splitlines() if line.startswith("|")]
    assert "| pytorch fp32 -> onnxruntime fp32 | cosine | -1 | at least 0.99 | **fail** |" in lines
    assert "not measured: built, not run here: &lt;no> \\| driver |" in lines[3]
    assert "| onnxruntime fp16 | half precision | **refuted** | 0 of 20 layers |" in lines
    assert capsys.readouterr().out.splitlines() == error_commands(PARITY)


def test_write_github__prints_elsewhere(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    assert write_github(PARITY) is None
    assert "### Parity" in capsys.readouterr().out


def test_error_commands__only_failed_gates() -> None:
    assert error_commands(PARITY) == [
        "::error title=edgeproof%3A cosine::pytorch fp32 -> onnxruntime fp32: cosine is -1, must be at least"
        " 0.99"
    ]


def test_escaped__no_name_can_write_a_command_of_its_own() -> None:
    assert escaped("50 %\n::error::x") == "50 %25%0A::error::x"
    assert escaped("a:b,c", of_property=True) == "a%3Ab%2Cc"


def test_cell__a_thousand_odd_names_leave_the_table_whole() -> None:
    rng = random.Random(3)
    for _ in range(1000):
        name = "".join(chr(rng.choice([*range(0x7F), 0x85, 0x2028, 0xDC80, 0x1F600])) for _ in range(9))
        table = github_summary(Parity([Judged(name, [at_least("cosine", 1.0, 0.9)])]))
        (row,) = table.splitlines()[4:-1]
        assert row.replace("\\\\", "").replace("\\|", "").count("|") == 6
        assert "<" not in cell(name).replace("&lt;", "")
        assert len(error_commands(Parity([Judged(name, [at_least("cosine", 0.0, 0.9)])]))[0].split("\n")) == 1
