"""The execution providers of ONNX Runtime, with the settings that make a device's figures honest."""

from __future__ import annotations

import ctypes
import importlib
from contextlib import suppress
from typing import Any

from edgeproof_deploy.runtime.cache_folder import cache_folder
from edgeproof_deploy.runtime.cuda_device import cuda_device
from edgeproof_deploy.runtime.errors import UnavailableError

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
"""Device that a session is asked to run on -> the provider."""

TENSORRT_LIBRARY = "libnvinfer.so.10"
"""What ONNX Runtime's TensorRT provider is linked against; another major version does not serve it."""


def providers_of(device: str, model: str) -> list[Any]:
    """Return the providers for a device, best first, with their settings.

    TF32 is off, since it would round the factors of every fp32 product to 10 bits.

    Args:
        device: a key of `PROVIDERS`.
        model: name of the file; says which precision TensorRT must allow.

    Raises:
        UnavailableError: there is no device, or TensorRT's library is missing.
    """
    if device == "cpu":
        return [PROVIDERS["cpu"]]
    cuda = (PROVIDERS["cuda"], {"use_tf32": "0"})
    if device == "cuda":
        return [cuda]
    return [(PROVIDERS["tensorrt"], tensorrt_options(model)), cuda]


def tensorrt_options(model: str) -> dict[str, str]:
    """Return the settings of the TensorRT provider.

    Its cache of engines is not told apart by version or device (onnxruntime issue 22244), so both stand in
    the name of the folder.
    """
    version = tensorrt_version()
    at = cuda_device()
    folder = str(cache_folder("onnxruntime", f"tensorrt{version}-sm{at.compute_capability.replace('.', '')}"))
    parts = model.replace("_", ".").split(".")
    return {
        "trt_engine_cache_enable": "True",
        "trt_engine_cache_path": folder,
        "trt_timing_cache_enable": "True",
        "trt_timing_cache_path": folder,
        "trt_fp16_enable": str("fp16" in parts),
        "trt_int8_enable": str("int8" in parts),
    }


def tensorrt_version() -> str:
    """Return the version of the TensorRT library that ONNX Runtime would load, such as `10.3.0`.

    Raises:
        UnavailableError: it is not found.
    """
    with suppress(ImportError, OSError):
        # Its wheel knows where the libraries lie, and loads them; a system installation needs no wheel.
        importlib.import_module("tensorrt")
    try:
        number = int(ctypes.CDLL(TENSORRT_LIBRARY).getInferLibVersion())
    except OSError as error:
        raise UnavailableError(
            f"ONNX Runtime's TensorRT provider needs {TENSORRT_LIBRARY} (TensorRT 10), which is not here"
        ) from error
    return f"{number // 10000}.{number // 100 % 100}.{number % 100}"
