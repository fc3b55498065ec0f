"""OpenVINO: runs the exported file on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from edgeproof_configs.registry import register
from edgeproof_deploy.engine import Engine, EngineConfig, Session, explained
from edgeproof_deploy.runtime.openvino_session import INSTALL, OpenVinoSession, why_not_installed


@register("engine")
class OpenVino(Engine):
    """OpenVINO on the CPU; of INT8 it reads the file that is made for ONNX Runtime."""

    class Config(EngineConfig):
        """No settings."""

        kind: Literal["openvino"] = "openvino"

    install: ClassVar[str] = INSTALL

    @classmethod
    def available(cls) -> str | None:
        """Return that the package is missing, or None."""
        return why_not_installed()

    def why_not_here(self, built: Path | None = None) -> str | None:
        """Return None: it runs wherever its package does."""
        return None

    def open(self, path: Path, threads: int | None = None) -> Session:
        """Load an ONNX file."""
        with explained(path):
            return OpenVinoSession(path.read_bytes(), threads=threads, name=path.name)
