"""PyTorch: the student itself, run from its folder, as it is or compiled."""

from __future__ import annotations

import os
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar, Literal

from edgeproof_configs.registry import register
from edgeproof_deploy.engine import Engine, EngineConfig, Session

COMPILERS = ("g++", "clang++", "c++")


class PyTorchEngine(Engine):
    """What eager and compiled PyTorch have in common."""

    source: ClassVar[Literal["onnx", "student"]] = "student"
    install: ClassVar[str] = "pip install 'edgeproof[train]'"

    @classmethod
    def available(cls) -> str | None:
        """Return that the package is missing, or None."""
        return None if find_spec("torch") else "torch is not installed"

    def why_not_here(self, built: Path | None = None) -> str | None:
        """Return None: it runs wherever torch does."""
        return None


@register("engine")
class PyTorch(PyTorchEngine):
    """Eager PyTorch on the CPU."""

    class Config(EngineConfig):
        """No settings."""

        kind: Literal["pytorch"] = "pytorch"

    def open(self, path: Path, threads: int | None = None) -> Session:
        """Load the folder of a student."""
        from edgeproof_deploy.torch_session import TorchSession
        from edgeproof_train.student import Student

        return TorchSession(Student.load(path), threads=threads)


@register("engine")
class PyTorchCompiled(PyTorchEngine):
    """PyTorch on the CPU through torch.compile; the first run of a shape compiles, for up to minutes."""

    class Config(EngineConfig):
        """No settings."""

        kind: Literal["pytorch_compiled"] = "pytorch_compiled"

    def why_not_here(self, built: Path | None = None) -> str | None:
        """Return that there is no C++ compiler, which torch.compile needs for a CPU, or None."""
        names = (os.environ["CXX"],) if os.environ.get("CXX") else COMPILERS
        if any(shutil.which(name) for name in names):
            return None
        return f"torch.compile needs a C++ compiler for the CPU, and there is none of {', '.join(names)}"

    def open(self, path: Path, threads: int | None = None) -> Session:
        """Load the folder of a student."""
        from edgeproof_deploy.torch_session import CompiledSession
        from edgeproof_train.student import Student

        return CompiledSession(Student.load(path), threads=threads)
