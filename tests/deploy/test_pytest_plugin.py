"""The plugin in pytest sessions of their own, as a user's build server runs them."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from tests.deploy.bundles import make_bundle, make_damaged_bundle

TEST = """
import sys

def test_parity(edgeproof_bundle):
    assert "torch" not in sys.modules
    edgeproof_bundle("bundle").assert_parity()
    assert "torch" not in sys.modules
"""


def run_pytest(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run pytest with this plugin alone: others that are installed here import torch themselves."""
    (folder / "pytest.ini").write_text("[pytest]\n")
    plugins = ["-p", "no:cacheprovider", "-p", "edgeproof_deploy.pytest_plugin"]
    environment = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    command = [sys.executable, "-m", "pytest", *plugins, "-q", *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )


def test_plugin__pytest_finds_it_by_itself() -> None:
    found = {entry.name: entry.value for entry in entry_points(group="pytest11")}
    assert found["edgeproof"] == "edgeproof_deploy.pytest_plugin"


@pytest.mark.integration
def test_plugin__a_bundle_that_is_as_it_was(tmp_path: Path) -> None:
    make_bundle(tmp_path / "bundle")
    (tmp_path / "test_mine.py").write_text(TEST)
    done = run_pytest(tmp_path)
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout


@pytest.mark.integration
def test_plugin__a_bundle_whose_model_drifted_fails_with_the_gates(tmp_path: Path) -> None:
    make_damaged_bundle(tmp_path / "bundle")
    (tmp_path / "test_mine.py").write_text(TEST)
    done = run_pytest(tmp_path)
    assert done.returncode == 1
    assert "model.onnx when made -> onnxruntime fp32: cosine is" in done.stdout
    assert "must be at least 0.9999" in done.stdout


@pytest.mark.integration
def test_plugin__who_does_not_use_it_imports_nothing_of_it(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text(
        "import sys\n\ndef test_nothing():\n"
        "    heavy = {'torch', 'onnxruntime', 'onnx', 'numpy', 'pydantic'}\n"
        "    assert not heavy & set(sys.modules)\n"
        "    ours = {name for name in sys.modules if name.startswith('edgeproof')}\n"
        "    assert ours == {'edgeproof_deploy', 'edgeproof_deploy.pytest_plugin'}\n"
    )
    done = run_pytest(tmp_path, "-W", "error")
    assert done.returncode == 0, done.stdout
    assert "edgeproof_bundle" in run_pytest(tmp_path, "--fixtures").stdout
