from __future__ import annotations

from contextlib import ExitStack
from typing import cast

import numpy as np
import pytest
import torch

from edgeproof_benchmarks.gpu_peers import PYTORCH, check_device, compared, main, without_tf32
from edgeproof_benchmarks.peer_student import make_student
from edgeproof_configs.errors import GateError, MissingPackageError
from edgeproof_deploy.runtime.cuda_device import why_no_cuda
from edgeproof_deploy.runtime.model_interface import Session
from edgeproof_deploy.torch_session import TorchSession

WAYS = {
    *(
        f"{way} {precision}"
        for way in ("PyTorch", "compiled PyTorch")
        for precision in ("fp32", "fp16", "bf16")
    ),
    "ONNX Runtime fp32",
    "ONNX Runtime fp16",
}


@pytest.mark.slow
def test_main__every_way_at_every_batch_size():
    given = ["--device", "cpu", "--backend", "eager", "--model", "test_resnet", "--image-size", "32"]
    record = main([*given, "--quick", "--batch", "1", "--batch", "3"])
    wanted = {f"{way}, batch {size}" for way in WAYS for size in (1, 3)}
    assert set(record["latencies_ms"]) == wanted
    assert set(record["figures"]["images_per_second"]) == wanted
    assert len(record["ratios"]) == len(wanted) - 2
    assert record["ratios"][f"ONNX Runtime fp16 / {PYTORCH}, batch 3"]["rounds"] == 2
    parity = record["figures"]["parity"]
    assert set(parity) == WAYS
    assert parity[PYTORCH]["cosine_min"] == pytest.approx(1, abs=1e-6)
    assert 0 < parity["PyTorch fp16"]["max_abs"] < parity["PyTorch bf16"]["max_abs"]


def test_compared__a_way_that_gives_something_else_is_not_timed():
    student, images = make_student("test_resnet", 32), np.random.default_rng(0).random((4, 3, 32, 32), "f4")
    other = TorchSession(make_student("test_resnet", 32))
    parameter = next(other.student.parameters())
    with torch.no_grad():
        parameter.mul_(-1)
    with pytest.raises(GateError, match=r"PyTorch fp32 gives a cosine of .* must be at least 0\.99999"):
        compared(student, {"PyTorch fp32": cast("Session", other)}, images)
    with torch.no_grad():
        parameter.fill_(float("nan"))
    with pytest.raises(GateError, match=r"PyTorch fp32 gives NaN .*\(4 images not finite\)"):
        compared(student, {"PyTorch fp32": cast("Session", other)}, images)


@pytest.mark.skipif(why_no_cuda() is None, reason="this machine has a CUDA device")
def test_check_device__says_what_is_missing():
    check_device("cpu")
    with pytest.raises(MissingPackageError, match="NVIDIA"):
        check_device("cuda")


def test_without_tf32__leaves_the_flags_as_they_were():
    with ExitStack() as stack:
        before = torch.backends.cudnn.allow_tf32
        stack.enter_context(without_tf32())
        assert not torch.backends.cudnn.allow_tf32
        stack.close()
        assert torch.backends.cudnn.allow_tf32 == before
