"""`make ship` in a bare clone, as a newcomer types it: the quickstart reaches its figures."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SETUP_AND_RUN_SECONDS = 1800


@pytest.mark.slow
@pytest.mark.integration
@pytest.mark.timeout(SETUP_AND_RUN_SECONDS + 60)
def test_make_ship__reaches_the_figures_of_the_quickstart(tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
    environment = {
        name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONPATH")
    }
    done = subprocess.run(
        ["make", "ship"],
        cwd=clone,
        env=environment | {"EDGEPROOF_CACHE": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        check=False,
        timeout=SETUP_AND_RUN_SECONDS,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    result = json.loads((clone / "runs" / "quickstart" / "result.json").read_text())
    rows = {(row["form"], row["engine"]): row["metrics"] for row in result["rows"]}
    teacher, shipped = rows["teacher", ""], rows["student", "onnxruntime"]
    assert teacher["seen"] >= 0.90
    assert teacher["unseen"] >= 0.55
    assert shipped["seen"] >= teacher["seen"] - 0.03
    assert shipped["unseen"] > 0
    assert {row["form"] for row in result["controls"]} == {"chance", "untrained student", "baseline"}
    status = subprocess.run(["git", "status", "--porcelain"], cwd=clone, capture_output=True, check=True)
    assert status.stdout == b""
