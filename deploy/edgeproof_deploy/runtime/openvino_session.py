"""Running an ONNX file with OpenVINO on the CPU."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from threading import Lock, local
from typing import Any

import numpy as np

from edgeproof_deploy.runtime.errors import BundleError, UnavailableError
from edgeproof_deploy.runtime.model_interface import Session, check_tensors, checked_input

INSTALL = "pip install openvino"
DEVICE = "CPU"

_made: list[Any] = []
_making = Lock()


class OpenVinoSession(Session):
    """A model in OpenVINO, tuned for the latency of one request at a time. Threads may share it.

    Arithmetic in floating point is fp32, whatever faster format the processor has; INT8 is INT8.

    Args:
        model: the bytes of a self-contained ONNX file.
        threads: for one inference; None leaves the choice to OpenVINO.
        name: what the model is called in an error.

    Raises:
        UnavailableError: openvino is not installed.
        BundleError: the file is not a model that OpenVINO can load, or has other tensors than ours.
    """

    def __init__(self, model: bytes, *, threads: int | None = None, name: str = "model.onnx"):
        if threads is not None and threads < 1:
            raise ValueError(f"threads must be at least 1, got {threads}")
        openvino = import_openvino()
        settings: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
        if threads is not None:
            settings["INFERENCE_NUM_THREADS"] = threads
        try:
            core = core_of(openvino)
            compiled = core.compile_model(core.read_model(model), DEVICE, settings)
        except RuntimeError as error:
            raise BundleError(name, f"cannot be loaded by OpenVINO: {reason_of(error)}") from error
        self.model = name
        self.inputs = {port.any_name: sides_of(port) for port in compiled.inputs}
        self.outputs = {port.any_name: sides_of(port) for port in compiled.outputs}
        check_tensors(self.inputs, self.outputs, name)
        self.providers = tuple(f"OpenVINO {device}" for device in compiled.get_property("EXECUTION_DEVICES"))
        self._compiled: Any = compiled
        self._requests = local()

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return every output by name.

        Raises:
            ValueError: the input has another name, type or shape than the model's, or the session is closed.
        """
        if self._compiled is None:
            raise ValueError(f"the session of {self.model} is closed")
        images = checked_input(inputs, self.inputs, self.model)
        if not hasattr(self._requests, "own"):
            # A request serves one call at a time, so each thread has its own.
            self._requests.own = self._compiled.create_infer_request()
        results = self._requests.own.infer({next(iter(self.inputs)): images})
        # The request owns its results and overwrites them the next time.
        return {name: np.array(results[name]) for name in self.outputs}

    def layers(self) -> list[tuple[str, str]]:
        """Return kind and numbers of each layer that is executed, such as `("Convolution", "u8")`.

        Raises:
            ValueError: the session is closed.
        """
        if self._compiled is None:
            raise ValueError(f"the session of {self.model} is closed")
        executed = self._compiled.get_runtime_model().get_ops()
        told = [operator.get_rt_info() for operator in executed]
        keys = ("layerType", "runtimePrecision")
        return [(str(info[keys[0]].astype(str)), str(info[keys[1]].astype(str))) for info in told]

    def close(self) -> None:
        """Free the model."""
        self._compiled, self._requests = None, local()


def why_not_installed() -> str | None:
    """Return that the package is missing and how to get it, or None."""
    return None if find_spec("openvino") else f"package openvino is not installed: {INSTALL}"


def import_openvino() -> Any:
    """Return the module.

    Raises:
        UnavailableError: it is not installed.
    """
    try:
        import openvino
    except ImportError as error:
        raise UnavailableError(f"openvino cannot be imported ({error}): {INSTALL}") from error
    return openvino


def core_of(openvino: Any) -> Any:
    """Return the one core of this process.

    Each core gives the main thread a stack for signals when it first loads a model, and the earlier one back
    when it goes. Of two that go in the order in which they came the second gives back what the first has
    freed, and the process dies of the next signal that Python handles, such as Ctrl-C.
    """
    with _making:
        if not _made:
            _made.append(openvino.Core())
        return _made[0]


def sides_of(port: Any) -> tuple[int, ...]:
    """Return the shape of an input or output; -1 stands for what is not fixed."""
    return tuple(-1 if side.is_dynamic else int(side.get_length()) for side in port.partial_shape)


def reason_of(error: Exception) -> str:
    """Return the line of an error that says what is wrong: those before it name source files of OpenVINO."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if not line.startswith("Exception from ")] or lines
    return told[0][:300] if told else type(error).__name__
