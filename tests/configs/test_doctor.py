from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from edgeproof.doctor import Finding, failed, memory_bytes, render, usable_cores

Run = Callable[..., tuple[int, str, str]]


def subjects(edgeproof: Run) -> tuple[int, dict[str, dict[str, str]]]:
    code, out, _ = edgeproof("doctor", "--json")
    return code, {row["subject"]: row for row in json.loads(out)}


def test_examine__a_cache_folder_that_cannot_be_written(
    edgeproof: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("EDGEPROOF_CACHE", str(tmp_path / "file" / "cache"))
    code, found = subjects(edgeproof)
    assert code == 1
    assert found["cache folder"]["status"] == "FAIL"
    assert "EDGEPROOF_CACHE" in found["cache folder"]["fix"]


@pytest.mark.parametrize(("value", "status"), [(None, "OK"), (".", "OK"), ("none", "WARN")])
def test_examine__the_data_variable(
    value: str | None, status: str, edgeproof: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if value is None:
        monkeypatch.delenv("EDGEPROOF_DATA", raising=False)
    else:
        monkeypatch.setenv("EDGEPROOF_DATA", str(tmp_path / value))
    code, found = subjects(edgeproof)
    assert (code, found["EDGEPROOF_DATA"]["status"]) == (0, status)


def test_examine__a_driver_that_does_not_answer(
    edgeproof: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\nexit 9\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    code, found = subjects(edgeproof)
    assert (code, found["cuda"]["status"]) == (0, "WARN")
    program.write_text("#!/bin/sh\necho 'NVIDIA X1, 555.42, 8.6, 8192 MiB'\n")
    text = subjects(edgeproof)[1]["cuda"]["text"]
    assert text == "NVIDIA X1, 8192 MiB, compute capability 8.6, driver 555.42"


def test_render__aligned_with_advice_below() -> None:
    findings = [Finding("OK", "a", "fine"), Finding("FAIL", "long", "broken", "mend it")]
    assert render(findings, False).splitlines() == [
        "OK    a     fine",
        "FAIL  long  broken",
        "            do: mend it",
    ]
    assert failed(findings)
    assert not failed(findings[:1])


def test_usable_cores_and_memory__are_plausible() -> None:
    assert usable_cores() > 0
    total, free = memory_bytes()
    assert total is not None
    assert free is not None
    assert 0 < free <= total
