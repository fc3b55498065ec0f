from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeproof_configs.errors import EdgeproofError
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
