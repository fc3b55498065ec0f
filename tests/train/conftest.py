"""The small training of `training_case.py` as a module, and a disk that is soon full."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

CASE = Path(__file__).with_name("training_case.py")


@pytest.fixture(scope="session")
def case() -> ModuleType:
    """Return the module; tests also run it as a program."""
    spec = importlib.util.spec_from_file_location("training_case", CASE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["training_case"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def small_disk(make_disk: Callable[[str], Path]) -> Path:
    """Return a disk with room for one megabyte."""
    return make_disk("1m")


@pytest.fixture(scope="session")
def run_case() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return `run(script, *arguments, processes=1)`: run a script of this folder, or `torchrun` it."""

    def run(script: str, *arguments: Any, processes: int = 1) -> subprocess.CompletedProcess[str]:
        launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        plain = [value if isinstance(value, str) else json.dumps(value) for value in arguments]
        command = [sys.executable, *(launcher if processes > 1 else []), str(CASE.with_name(script)), *plain]
        done = subprocess.run(command, capture_output=True, text=True, timeout=500)
        assert done.returncode == 0, done.stderr
        return done

    return run
