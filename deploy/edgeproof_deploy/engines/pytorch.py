"""PyTorch: the student itself, run from its folder."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar, Literal

from edgeproof_configs.registry import register
from edgeproof_deploy.engine import Engine, EngineConfig, Session


@register("engine")
class PyTorch(Engine):
    """Eager PyTorch on the CPU."""

    class Config(EngineConfig):
        """No settings."""

        kind: Literal["pytorch"] = "pytorch"

    source: ClassVar[Literal["onnx", "student"]] = "student"

    @classmethod
    def available(cls) -> str | None:
        """Return why it cannot be used, or None."""
        return None if find_spec("torch") else "torch is not installed"

    def why_not_here(self) -> str | None:
        """Return None: it runs wherever torch does."""
        return None

    def open(self, path: Path, threads: int | None = None) -> Session:
        """Load the folder of a student."""
        from edgeproof_deploy.torch_session import TorchSession
        from edgeproof_train.student import Student

        return TorchSession(Student.load(path), threads=threads)
