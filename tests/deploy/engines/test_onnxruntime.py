from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeproof_configs.errors import EdgeproofError, MissingPackageError
from edgeproof_configs.registry import component_class
from edgeproof_deploy.engine import BuildOptions, make_engine
from edgeproof_train.student import Student


def test_open__runs_the_exported_file_on_the_cpu(student: Student, onnx_file: Path, tmp_path: Path) -> None:
    engine = make_engine("onnxruntime")
    assert engine.build(onnx_file, tmp_path, BuildOptions()) == onnx_file
    assert engine.files(onnx_file) == []
    assert engine.status == "run here"
    session = engine.open(onnx_file, threads=1)
    assert session.providers == ("CPUExecutionProvider",)
    outputs = session.run({"image": np.zeros((3, 3, 32, 32), np.float32)})
    assert {name: value.shape for name, value in outputs.items()} == {"embedding": (3, 16)}
    session.close()


def test_open__a_file_cut_in_half_is_named(onnx_file: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.onnx"
    cut.write_bytes(onnx_file.read_bytes()[:1000])
    with pytest.raises(EdgeproofError, match=r"cannot be loaded by ONNX Runtime") as caught:
        make_engine("onnxruntime").open(cut)
    assert caught.value.where == str(cut)


@pytest.mark.parametrize("kind", ["onnxruntime_cuda", "onnxruntime_tensorrt"])
def test_open__a_provider_without_a_device_is_refused_and_not_replaced(kind: str, onnx_file: Path) -> None:
    engine: Any = component_class("engine", kind)
    if engine.available() is not None:
        pytest.skip(engine.available())
    made = make_engine(kind)
    reason = made.why_not_here()
    if reason is None:
        pytest.skip("this machine has a CUDA device")
    assert made.status == "built, not run here"
    with pytest.raises(MissingPackageError) as caught:
        made.open(onnx_file)
    assert caught.value.exit_code == 5
    assert reason in str(caught.value)


def test_available__a_provider_that_this_package_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(MissingPackageError, match="this onnxruntime has no CUDAExecutionProvider") as caught:
        make_engine("onnxruntime_cuda")
    assert "onnxruntime-gpu" in str(caught.value.fix)
    assert make_engine("onnxruntime").runs_here
