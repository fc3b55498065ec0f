"""Running a model: the interface that every engine has, ONNX Runtime, and the choice by an engine's name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgeproof_deploy.runtime.bundle import Bundle
from edgeproof_deploy.runtime.errors import BundleError, UnavailableError
from edgeproof_deploy.runtime.onnx_providers import PROVIDERS, providers_of

DEVICES = {"onnxruntime": "cpu", "onnxruntime_cuda": "cuda", "onnxruntime_tensorrt": "tensorrt"}
"""Engine of ONNX Runtime -> the device that it is asked to run on."""

ENGINES = tuple(DEVICES)
"""The engines that can run a model of a bundle."""

MODEL_FILE = "model.onnx"
INPUTS = ("image", "views")
OUTPUTS = ("embedding", "logits", "tokens")
FATAL_ONLY = 4
Shapes = Mapping[str, tuple[Any, ...]]


class Session(ABC):
    """A loaded model.

    Attributes:
        providers: what really runs it, the first one before the others.
        inputs: shape of each input by name; the axis of the batch is a name or -1.
        outputs: shape of each output by name.
        model: name of the file that runs.
    """

    providers: tuple[str, ...]
    inputs: Shapes
    outputs: Shapes
    model: str = ""

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
        device: `cpu`, `cuda`, or `tensorrt`, which leaves what TensorRT does not know to CUDA.
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
        if device != "cpu" and hasattr(runtime, "preload_dlls"):
            runtime.preload_dlls()
        options = runtime.SessionOptions()
        options.log_severity_level = FATAL_ONLY
        if not optimise:
            options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
        if threads is not None:
            options.intra_op_num_threads = threads
        try:
            source = str(model) if isinstance(model, Path) else model
            self._session = runtime.InferenceSession(source, options, providers=providers_of(device, name))
        except Exception as error:
            # onnxruntime raises its own classes, which have no base but Exception.
            raise BundleError(name, f"cannot be loaded by ONNX Runtime: {first_line(error)}") from error
        self.providers = tuple(self._session.get_providers())
        if self.providers[0] != wanted:
            raise UnavailableError(
                f"asked for {wanted}, but ONNX Runtime can only use {self.providers[0]} here"
            )
        self.model = name
        self.inputs = {node.name: tuple(node.shape) for node in self._session.get_inputs()}
        self.outputs = {node.name: tuple(node.shape) for node in self._session.get_outputs()}

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return every output by name."""
        values = self._session.run(None, dict(inputs))
        return dict(zip(self.outputs, values, strict=True))

    def close(self) -> None:
        """Free the model."""
        del self._session


def open_engine(
    bundle: Bundle,
    engine: str,
    threads: int | None = None,
    *,
    model: str | None = None,
    rebuild: bool = False,
) -> Session:
    """Load a model of a bundle into an engine.

    Args:
        bundle: its manifest has been read.
        engine: one of `ENGINES`.
        threads: threads within one operator; None leaves the choice to the engine.
        model: ONNX file of the bundle; the one that its manifest recommends if None.
        rebuild: build a plan that does not fit this machine again, from the bundle's ONNX file.

    Raises:
        UnavailableError: there is no such engine, or it cannot be used here.
        BundleError: the file is not in the bundle, was changed, or is no model with our inputs and outputs.
    """
    if engine not in ENGINES:
        raise UnavailableError(f"this runtime does not run '{engine}', it runs {', '.join(ENGINES)}")
    name = chosen_model(bundle, model)
    session = OnnxSession(bundle.read(name), device=DEVICES[engine], threads=threads, name=name)
    check_tensors(session.inputs, session.outputs, name)
    return session


def chosen_model(bundle: Bundle, model: str | None) -> str:
    """Return the ONNX file that was asked for, or the one that the manifest recommends.

    Raises:
        BundleError: it is not in the bundle.
    """
    name = model or str(bundle.manifest.get("model", MODEL_FILE))
    if name not in bundle.listed or not name.endswith(".onnx"):
        models = [file for file in sorted(bundle.listed) if file.endswith(".onnx")]
        raise BundleError(name, f"is not in the manifest, whose models are {', '.join(models) or 'none'}")
    return name


def check_tensors(inputs: Shapes, outputs: Shapes, model: str) -> None:
    """Refuse a model whose inputs or outputs have other names or another layout than ours.

    Raises:
        BundleError: says what was found and what is expected.
    """
    if len(inputs) != 1 or next(iter(inputs)) not in INPUTS:
        raise BundleError(model, f"has the inputs {', '.join(inputs)}; expected one of {', '.join(INPUTS)}")
    if not set(outputs) & set(OUTPUTS):
        raise BundleError(model, f"has the outputs {', '.join(outputs)}; expected {' or '.join(OUTPUTS)}")
    name, shape = next(iter(inputs.items()))
    axes = 4 + INPUTS.index(name)
    if len(shape) != axes or shape[-3] != 3:
        wanted = ("batch", "views", 3, "height", "width") if axes == 5 else ("batch", 3, "height", "width")
        shown = ", ".join(map(str, shape))
        last = len(shape) == axes and shape[-1] == 3
        raise BundleError(
            model,
            f"takes '{name}' as ({shown}){', channels last' if last else ''};"
            f" expected ({', '.join(map(str, wanted))})",
        )


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
