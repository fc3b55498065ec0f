"""Running a model: the interface that every engine has, and ONNX Runtime."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgeproof_deploy.runtime.errors import BundleError, UnavailableError

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
FATAL_ONLY = 4


class Session(ABC):
    """A loaded model.

    Attributes:
        providers: what really runs it, the first one before the others.
        phases: milliseconds of the last `run` by part: `copy_in`, `compute`, `copy_out`. None where the
            engine does not part them (on a CPU nothing is copied), or nothing has run yet.
    """

    providers: tuple[str, ...]
    phases: Mapping[str, float] | None = None

    @abstractmethod
    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the outputs by name. Inputs: `image` float32 (B, 3, H, W), normalised."""

    @abstractmethod
    def close(self) -> None:
        """Free the model."""


class OnnxSession(Session):
    """A model in ONNX Runtime, on the device that was asked for or not at all.

    ONNX Runtime lists providers that cannot be loaded and falls back to the CPU without an error, so what it
    chose is compared with what was asked for.

    Args:
        model: a path, or the bytes of a self-contained file.
        device: `cpu` or `cuda`.
        threads: threads within one operator; None leaves the choice to ONNX Runtime.
        name: what the model is called in an error.
        optimise: let ONNX Runtime fuse operators; else it runs the file as it stands.

    Raises:
        UnavailableError: onnxruntime is not installed, or does not run on this device.
        BundleError: the file is not a model that ONNX Runtime can load.
    """

    def __init__(
        self,
        model: Path | bytes,
        *,
        device: str = "cpu",
        threads: int | None = None,
        name: str = "model.onnx",
        optimise: bool = True,
    ):
        if device not in PROVIDERS:
            raise ValueError(f"device must be one of {', '.join(PROVIDERS)}, got {device!r}")
        if threads is not None and threads < 1:
            raise ValueError(f"threads must be at least 1, got {threads}")
        runtime = import_onnxruntime()
        wanted = PROVIDERS[device]
        available = runtime.get_available_providers()
        if wanted not in available:
            raise UnavailableError(f"this onnxruntime has no {wanted}, it has {', '.join(available)}")
        if device == "cuda" and hasattr(runtime, "preload_dlls"):
            runtime.preload_dlls()
        options = runtime.SessionOptions()
        options.log_severity_level = FATAL_ONLY
        if not optimise:
            options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
        if threads is not None:
            options.intra_op_num_threads = threads
        try:
            source = str(model) if isinstance(model, Path) else model
            self._session = runtime.InferenceSession(source, options, providers=[wanted])
        except Exception as error:
            # onnxruntime raises its own classes, which have no base but Exception.
            raise BundleError(name, f"cannot be loaded by ONNX Runtime: {first_line(error)}") from error
        self.providers = tuple(self._session.get_providers())
        if self.providers[0] != wanted:
            raise UnavailableError(
                f"asked for {wanted}, but ONNX Runtime can only use {self.providers[0]} here"
            )
        self.inputs = {node.name: tuple(node.shape) for node in self._session.get_inputs()}
        self.outputs = {node.name: tuple(node.shape) for node in self._session.get_outputs()}

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return every output by name."""
        values = self._session.run(None, dict(inputs))
        return dict(zip(self.outputs, values, strict=True))

    def close(self) -> None:
        """Free the model."""
        del self._session


def import_onnxruntime() -> Any:
    """Return the module.

    Raises:
        UnavailableError: it is not installed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise UnavailableError(f"onnxruntime is not installed ({error}): pip install onnxruntime") from error
    return onnxruntime


def first_line(error: Exception) -> str:
    """Return the first line of an error, at most 300 characters of it."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]
