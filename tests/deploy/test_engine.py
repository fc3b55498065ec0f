from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from typing import get_args

import pytest

from edgeproof_configs.deploy_schema import EngineName
from edgeproof_configs.errors import MissingPackageError, UsageError
from edgeproof_configs.registry import discover
from edgeproof_deploy.engine import make_engine


def test_make_engine__every_engine_is_found_by_its_name() -> None:
    assert list(discover("engine")) == sorted(get_args(EngineName))
    for kind, engine in discover("engine").items():
        if engine.available() is None:  # pyright: ignore[reportAttributeAccessIssue]
            assert make_engine(kind).kind == kind


def test_make_engine__a_missing_package_and_how_to_get_it() -> None:
    if find_spec("tensorrt"):
        pytest.skip("tensorrt is installed here")
    with pytest.raises(MissingPackageError, match="package tensorrt is not installed") as caught:
        make_engine("tensorrt")
    assert caught.value.exit_code == 5
    assert "JetPack" in str(caught.value.fix)


def test_make_engine__misspelt() -> None:
    with pytest.raises(UsageError, match="Did you mean 'onnxruntime'"):
        make_engine("onnx-runtime")


def test_discover__listing_the_engines_imports_none_of_their_packages() -> None:
    code = (
        "import sys; from edgeproof_configs.registry import discover; discover('engine');"
        "names = ('torch', 'onnxruntime', 'tensorrt', 'tensorrt_rtx', 'openvino', 'cuda', 'onnx');"
        "print([name for name in names if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
