"""Running a model of a bundle: the choice by an engine's name, and ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgeproof_deploy.runtime.bundle import Bundle
from edgeproof_deploy.runtime.cuda_device import why_no_cuda
from edgeproof_deploy.runtime.errors import BundleError, UnavailableError
from edgeproof_deploy.runtime.model_interface import Session, check_tensors
from edgeproof_deploy.runtime.onnx_providers import PROVIDERS, providers_of

__all__ = ["DEVICES", "ENGINES", "MODEL_FILE", "OnnxSession", "Session", "import_onnxruntime", "open_engine"]

DEVICES = {"onnxruntime": "cpu", "onnxruntime_cuda": "cuda", "onnxruntime_tensorrt": "tensorrt"}
"""Engine of ONNX Runtime -> the device that it is asked to run on."""

PLANS = ("tensorrt", "tensorrt_rtx")
ENGINES = (*DEVICES, "openvino", *PLANS)
"""The engines that can run a model of a bundle."""

TENSORRT_FLAVOUR = ("onnxruntime_tensorrt", *PLANS)
"""Engines that read an INT8 model with the placement of TensorRT; the others read that of ONNX Runtime."""

MODEL_FILE = "model.onnx"
FATAL_ONLY = 4


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
        missing = None if device == "cpu" else why_no_cuda()
        if missing:
            # ONNX Runtime would try nevertheless, print what it misses, and take the CPU.
            raise UnavailableError(f"{wanted} cannot be used: {missing}")
        if device != "cpu" and hasattr(runtime, "preload_dlls"):
            runtime.preload_dlls()
        options = runtime.SessionOptions()
        options.log_severity_level = FATAL_ONLY
        if not optimise:
            options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
        if threads is not None:
            options.intra_op_num_threads = threads
        providers = providers_of(device, name)
        try:
            source = str(model) if isinstance(model, Path) else model
            self._session = runtime.InferenceSession(source, options, providers=providers)
        except Exception as error:
            # onnxruntime raises its own classes, which have no base but Exception.
            raise BundleError(name, f"cannot be loaded by ONNX Runtime: {first_line(error)}") from error
        self.providers = tuple(self._session.get_providers())
        if self.providers[0] != wanted:
            raise UnavailableError(
                f"asked for {wanted}, but ONNX Runtime can only use {self.providers[0]} here"
            )
        self.model = name
        try:
            self.inputs = {node.name: tuple(node.shape) for node in self._session.get_inputs()}
            self.outputs = {node.name: tuple(node.shape) for node in self._session.get_outputs()}
        except UnicodeDecodeError as error:
            raise BundleError(name, f"has names that are no text: {error}") from error

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
        threads: threads within one operator, on a CPU; None leaves the choice to the engine.
        model: ONNX file of the bundle; the one that its manifest recommends if None.
        rebuild: where no plan of the bundle fits this machine, build one from the ONNX file. It is kept in
            the cache folder for the next time; other engines need no plan.

    Raises:
        UnavailableError: there is no such engine, it cannot be used here, or no plan fits this machine.
        BundleError: the file is not in the bundle, was changed, or is no model with our inputs and outputs.
    """
    if engine not in ENGINES:
        raise UnavailableError(f"this runtime does not run '{engine}', it runs {', '.join(ENGINES)}")
    name = model_read(bundle, engine, model)
    if engine in PLANS:
        from edgeproof_deploy.runtime.plans import open_bundled_plan

        return open_bundled_plan(bundle, engine, name, rebuild=rebuild)
    if engine == "openvino":
        from edgeproof_deploy.runtime.openvino_session import OpenVinoSession

        return OpenVinoSession(bundle.read(name), threads=threads, name=name)
    session = OnnxSession(bundle.read(name), device=DEVICES[engine], threads=threads, name=name)
    check_tensors(session.inputs, session.outputs, name)
    return session


def model_read(bundle: Bundle, engine: str, model: str | None = None) -> str:
    """Return the ONNX file that an engine reads, or whose plan it runs: TensorRT has an INT8 file of its own.

    Raises:
        BundleError: it is not in the bundle.
    """
    name = chosen_model(bundle, model)
    flavour = name.removesuffix(".onnx").removesuffix(".trt") + ".trt.onnx"
    return flavour if engine in TENSORRT_FLAVOUR and flavour in bundle.listed else name


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
