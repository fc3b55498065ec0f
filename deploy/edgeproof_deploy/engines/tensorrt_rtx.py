"""TensorRT-RTX: builds plans for NVIDIA's RTX GPUs on any machine, with or without such a GPU."""

from __future__ import annotations

from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, Literal

from edgeproof_configs.errors import MissingPackageError
from edgeproof_configs.registry import register
from edgeproof_deploy.engine import BuildOptions, Engine, EngineConfig, Session
from edgeproof_deploy.plan import build_plan, sidecar_of
from edgeproof_deploy.runtime.cuda_device import why_no_cuda


@register("engine")
class TensorRTRTX(Engine):
    """Plans of TensorRT-RTX, compiled for one compute capability."""

    class Config(EngineConfig):
        """No settings."""

        kind: Literal["tensorrt_rtx"] = "tensorrt_rtx"

    file_suffix: ClassVar[str] = ".engine"

    @classmethod
    def available(cls) -> str | None:
        """Return why it cannot build, or None."""
        return None if find_spec("tensorrt_rtx") else "package tensorrt-rtx is not installed"

    def why_not_here(self) -> str | None:
        """Return why a plan is not run on this machine."""
        reason = why_no_cuda()
        return reason or "this version of edgeproof builds TensorRT-RTX plans and does not run them"

    def build(self, source: Path, folder: Path, options: BuildOptions) -> Path:
        """Write `tensorrt_rtx-<precision>-sm<capability>.engine` and its `.json`, and return the plan.

        Raises:
            EdgeproofError: the model is not supported.
        """
        import tensorrt_rtx

        trt: Any = tensorrt_rtx
        number = options.compute_capability.replace(".", "")
        capability = getattr(trt.ComputeCapability, f"SM{number}")

        def target(config: Any) -> None:
            config.num_compute_capabilities = 1
            config.set_compute_capability(capability, 0)

        described = {
            "engine": self.kind,
            "versions": {"tensorrt_rtx": version("tensorrt_rtx")},
            "compute_capability": options.compute_capability,
            "run": self.status,
            "reason": self.why_not_here(),
        }
        plan = folder / f"{self.kind}-{options.label or options.precision}-sm{number}{self.file_suffix}"
        return build_plan(trt, source, plan, options, target=target, described=described)

    def open(self, path: Path, threads: int | None = None) -> Session:
        """Raise: plans are built here and run elsewhere.

        Raises:
            MissingPackageError: always, with the reason.
        """
        raise MissingPackageError(
            f"a TensorRT-RTX plan cannot be run here: {self.why_not_here()}",
            where=path,
            fix="choose another engine, such as --engine onnxruntime",
        )

    def files(self, built: Path) -> list[Path]:
        """Return the plan and its sidecar."""
        return [built, sidecar_of(built)]
