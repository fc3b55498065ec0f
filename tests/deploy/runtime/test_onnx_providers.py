from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from tests.deploy.runtime.gpu_stand_in import install

from edgeproof_deploy.runtime import onnx_providers
from edgeproof_deploy.runtime.errors import UnavailableError


def test_providers_of__cpu_and_cuda() -> None:
    assert onnx_providers.providers_of("cpu", "model.onnx") == ["CPUExecutionProvider"]
    assert onnx_providers.providers_of("cuda", "model.onnx") == [("CUDAExecutionProvider", {"use_tf32": "0"})]


@pytest.mark.parametrize(
    ("model", "half", "integers"),
    [
        ("model.onnx", "False", "False"),
        ("model.fp16.onnx", "True", "False"),
        ("model.sparse_int8.trt.onnx", "False", "True"),
    ],
)
def test_providers_of__tensorrt_keeps_its_engines_by_version_and_device(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, model: str, half: str, integers: str
) -> None:
    """Driver and library are stand-ins: what is tested is what ONNX Runtime would be told."""
    install(monkeypatch)
    monkeypatch.setenv("EDGEPROOF_CACHE", str(tmp_path))
    driver = onnx_providers.ctypes.CDLL
    library = SimpleNamespace(getInferLibVersion=lambda: 101602)
    wanted = onnx_providers.TENSORRT_LIBRARY
    monkeypatch.setattr(
        onnx_providers.ctypes, "CDLL", lambda name, *rest: library if name == wanted else driver(name, *rest)
    )
    (name, settings), cuda = onnx_providers.providers_of("tensorrt", model)
    assert (name, cuda[0]) == ("TensorrtExecutionProvider", "CUDAExecutionProvider")
    assert settings["trt_engine_cache_path"] == str(tmp_path / "onnxruntime" / "tensorrt10.16.2-sm86")
    assert (settings["trt_fp16_enable"], settings["trt_int8_enable"]) == (half, integers)


def test_tensorrt_version__not_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_providers, "TENSORRT_LIBRARY", "libno-such-library.so.10")
    with pytest.raises(UnavailableError, match=r"needs libno-such-library\.so\.10 \(TensorRT 10\)"):
        onnx_providers.tensorrt_version()
