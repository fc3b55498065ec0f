"""ONNX Runtime on the CPU: runs the exported file as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from edgeproof_configs.registry import register
from edgeproof_deploy.engine import Engine, EngineConfig, Session, open_onnx
from edgeproof_deploy.runtime.errors import UnavailableError
from edgeproof_deploy.runtime.session import import_onnxruntime


@register("engine")
class OnnxRuntime(Engine):
    """ONNX Runtime with its CPU provider; which provider really runs is checked at every `open`."""

    class Config(EngineConfig):
        """No settings."""

        kind: Literal["onnxruntime"] = "onnxruntime"

    @classmethod
    def available(cls) -> str | None:
        """Return why it cannot be used, or None."""
        try:
            import_onnxruntime()
        except UnavailableError as error:
            return str(error)
        return None

    def why_not_here(self) -> str | None:
        """Return None: it runs wherever its package does."""
        return None

    def open(self, path: Path, threads: int | None = None) -> Session:
        """Load an ONNX file."""
        return open_onnx(path, threads=threads)
