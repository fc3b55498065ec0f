from __future__ import annotations

import subprocess
import sys

import pytest

from edgeproof_configs.errors import UsageError
from edgeproof_configs.registry import discover
from edgeproof_deploy.engine import make_engine


def test_make_engine__every_engine_is_found_by_its_name() -> None:
    assert list(discover("engine")) == ["onnxruntime", "pytorch", "tensorrt_rtx"]
    assert [make_engine(kind).kind for kind in discover("engine")] == list(discover("engine"))


def test_make_engine__misspelt() -> None:
    with pytest.raises(UsageError, match="Did you mean 'onnxruntime'"):
        make_engine("onnx-runtime")


def test_discover__listing_the_engines_imports_none_of_their_packages() -> None:
    code = (
        "import sys; from edgeproof_configs.registry import discover; discover('engine');"
        "print([name for name in ('torch', 'onnxruntime', 'tensorrt_rtx', 'onnx') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
