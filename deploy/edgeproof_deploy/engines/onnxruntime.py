"""ONNX Runtime: runs the exported file as it is, on the CPU, with CUDA or with TensorRT.

Each provider is an engine of its own, so that none stands in for another: what really runs is compared with
what was asked for at every `open`.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from edgeproof_configs.registry import register
from edgeproof_deploy.engine import Engine, EngineConfig, Session, open_onnx
from edgeproof_deploy.runtime.cuda_device import why_no_cuda
from edgeproof_deploy.runtime.errors import UnavailableError
from edgeproof_deploy.runtime.onnx_providers import PROVIDERS, tensorrt_version
from edgeproof_deploy.runtime.session import DEVICES, import_onnxruntime


class OnnxRuntimeEngine(Engine):
    """What the providers of ONNX Runtime have in common."""

    @classmethod
    def available(cls) -> str | None:
        """Return why it cannot be used, or None: the package, or this provider in it, is missing."""
        try:
            providers = import_onnxruntime().get_available_providers()
        except UnavailableError as error:
            return str(error)
        wanted = PROVIDERS[DEVICES[cls.Config.model_fields["kind"].default]]
        return None if wanted in providers else f"this onnxruntime has no {wanted}: {cls.install}"

    def why_not_here(self, built: Path | None = None) -> str | None:
        """Return that there is no CUDA device where it needs one, or None."""
        return None if self.kind == "onnxruntime" else why_no_cuda()

    def open(self, path: Path, threads: int | None = None) -> Session:
        """Load an ONNX file."""
        return open_onnx(path, device=DEVICES[self.kind], threads=threads)


@register("engine")
class OnnxRuntime(OnnxRuntimeEngine):
    """ONNX Runtime on the CPU."""

    class Config(EngineConfig):
        """No settings."""

        kind: Literal["onnxruntime"] = "onnxruntime"


@register("engine")
class OnnxRuntimeCuda(OnnxRuntimeEngine):
    """ONNX Runtime with its CUDA provider, TF32 off."""

    class Config(EngineConfig):
        """No settings."""

        kind: Literal["onnxruntime_cuda"] = "onnxruntime_cuda"

    install: ClassVar[str] = "pip install onnxruntime-gpu (and uninstall onnxruntime, which hides it)"


@register("engine")
class OnnxRuntimeTensorRT(OnnxRuntimeEngine):
    """ONNX Runtime with its TensorRT provider; what that does not know runs with CUDA."""

    class Config(EngineConfig):
        """No settings."""

        kind: Literal["onnxruntime_tensorrt"] = "onnxruntime_tensorrt"

    install: ClassVar[str] = "pip install onnxruntime-gpu, and the libraries of TensorRT 10"

    def why_not_here(self, built: Path | None = None) -> str | None:
        """Return that there is no CUDA device, or no TensorRT that the provider can use, or None."""
        missing = super().why_not_here(built)
        if missing is None:
            try:
                tensorrt_version()
            except UnavailableError as error:
                missing = str(error)
        return missing
