from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from edgeproof_deploy.runtime.cuda_device import why_no_cuda
from edgeproof_deploy.runtime.errors import BundleError, UnavailableError
from edgeproof_deploy.runtime.session import OnnxSession


def test_onnx_session__from_a_file_and_from_bytes(onnx_file: Path) -> None:
    images = np.random.default_rng(0).standard_normal((2, 3, 32, 32)).astype(np.float32)
    sessions = [OnnxSession(onnx_file, threads=1), OnnxSession(onnx_file.read_bytes(), threads=1)]
    results = [session.run({"image": images})["embedding"] for session in sessions]
    assert np.array_equal(results[0], results[1])
    assert sessions[0].providers == ("CPUExecutionProvider",)
    assert sessions[0].inputs == {"image": ("batch", 3, 32, 32)}
    assert sessions[0].outputs == {"embedding": ("batch", 16)}


def test_onnx_session__a_gpu_that_is_not_there_is_no_silent_fallback(onnx_file: Path) -> None:
    missing = why_no_cuda()
    if missing is None:
        pytest.skip("this machine has a CUDA device")
    for device, provider in (("cuda", "CUDAExecutionProvider"), ("tensorrt", "TensorrtExecutionProvider")):
        with pytest.raises(UnavailableError, match=provider) as caught:
            OnnxSession(onnx_file, device=device)
        assert caught.value.exit_code == 5
        if provider in onnxruntime.get_available_providers():
            assert missing in str(caught.value)


def test_onnx_session__a_provider_that_does_not_load_is_no_silent_fallback(
    onnx_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a machine with a driver and without CUDA's libraries: onnxruntime itself takes the CPU."""
    if why_no_cuda() is None or "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("this needs onnxruntime-gpu on a machine without a CUDA device")
    monkeypatch.setattr("edgeproof_deploy.runtime.session.why_no_cuda", lambda: None)
    with pytest.raises(UnavailableError, match="can only use CPUExecutionProvider here"):
        OnnxSession(onnx_file, device="cuda")


def test_onnx_session__no_model(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"model\.onnx: cannot be loaded by ONNX Runtime: "):
        OnnxSession(b"\x00\x01\x02 not a model")
    with pytest.raises(BundleError, match=r"gone\.onnx: cannot be loaded"):
        OnnxSession(tmp_path / "gone.onnx", name="gone.onnx")


@pytest.mark.parametrize("settings", [{"device": "tpu"}, {"threads": 0}])
def test_onnx_session__bad_arguments(onnx_file: Path, settings: dict[str, str | int]) -> None:
    with pytest.raises(ValueError, match="must be"):
        OnnxSession(onnx_file, **settings)  # pyright: ignore[reportArgumentType]
