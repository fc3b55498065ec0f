from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from tests.deploy.runtime.gpu_stand_in import install

from edgeproof_deploy.runtime import cuda_device
from edgeproof_deploy.runtime.errors import UnavailableError


def test_cuda_device__as_nvidia_smi_has_it() -> None:
    if shutil.which("nvidia-smi") is None:
        assert cuda_device.why_no_cuda()
        pytest.skip("there is no NVIDIA driver on this machine")
    query = ["nvidia-smi", "--query-gpu=name,compute_cap", "--format=csv,noheader"]
    name, capability = (
        subprocess.run(query, capture_output=True, text=True).stdout.splitlines()[0].split(", ")
    )
    found = cuda_device.cuda_device()
    assert (found.name, found.compute_capability) == (name, capability)


def test_cuda_device__name_capability_and_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = install(monkeypatch)
    gpu.capability = (12, 1)
    assert cuda_device.cuda_device() == cuda_device.CudaDevice("Stand-in GPU", "12.1", "CUDA 12.6")
    assert cuda_device.why_no_cuda() is None


def test_cuda_device__no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_device, "DRIVER", "libno-such-driver.so.1")
    with pytest.raises(UnavailableError, match="there is no NVIDIA driver on this machine"):
        cuda_device.cuda_device()


def test_release__of_the_kernel_module(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    told = tmp_path / "version"
    monkeypatch.setattr(cuda_device, "MODULE_VERSION", told)
    assert cuda_device.release() is None
    told.write_text(
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  560.35.03  Fri Aug 16 21:39:15 UTC 2024\n"
    )
    assert cuda_device.release() == "560.35.03"
