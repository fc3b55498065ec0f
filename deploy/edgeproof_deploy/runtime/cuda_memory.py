"""Memory, a stream, events and graphs of a CUDA device, through cuda-python."""

from __future__ import annotations

import ctypes
import importlib
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

from edgeproof_deploy.runtime.errors import UnavailableError
from edgeproof_deploy.runtime.tensorrt_package import CUDA_INSTALL, CUDA_MODULES, found


class CudaMemory:
    """What one session holds on the device; all of it is freed together, when closed or forgotten.

    Attributes:
        stream: the stream that everything runs in.

    Raises:
        UnavailableError: cuda-python is missing, or there is no device.
    """

    def __init__(self) -> None:
        module = next((name for name in CUDA_MODULES if found(name)), None)
        if module is None:
            raise UnavailableError(f"cuda-python is not installed: {CUDA_INSTALL}")
        self._runtime: Any = importlib.import_module(module)
        self._frees: list[Callable[[], Any]] = []
        self.close = weakref.finalize(self, _free, self._frees)
        self.stream = self.call("cudaStreamCreate")
        self._later("cudaStreamDestroy", self.stream)

    def call(self, name: str, *arguments: Any) -> Any:
        """Call a function of CUDA's runtime and return what it gives besides its error code.

        Raises:
            UnavailableError: the device says no; in CUDA's words.
        """
        error, *values = getattr(self._runtime, name)(*arguments)
        if int(error):
            _, text = self._runtime.cudaGetErrorString(error)
            said = text.decode(errors="replace") if isinstance(text, bytes) else str(text)
            raise UnavailableError(f"the CUDA device fails in {name}: {said}")
        return values[0] if values else None

    def _later(self, name: str, what: Any) -> None:
        """Call a function when the memory is freed; newest first."""
        function = getattr(self._runtime, name)
        self._frees.append(lambda: function(what))

    def on_device(self, count: int) -> int:
        """Return the address of that many new bytes on the device."""
        address = int(self.call("cudaMalloc", max(count, 1)))
        self._later("cudaFree", address)
        return address

    def on_host(self, count: int) -> np.ndarray:
        """Return that many new bytes that stay in place, so that the device can copy them: uint8 (N,)."""
        address = int(self.call("cudaMallocHost", max(count, 1)))
        self._later("cudaFreeHost", address)
        return np.ctypeslib.as_array((ctypes.c_uint8 * max(count, 1)).from_address(address))

    def copy_in(self, device: int, host: np.ndarray, count: int) -> None:
        """Copy the first bytes of the host to the device, in the stream."""
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyHostToDevice
        self.call("cudaMemcpyAsync", device, host.ctypes.data, count, kind, self.stream)

    def copy_out(self, host: np.ndarray, device: int, count: int) -> None:
        """Copy the first bytes of the device to the host, in the stream."""
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self.call("cudaMemcpyAsync", host.ctypes.data, device, count, kind, self.stream)

    def wait(self) -> None:
        """Wait until everything in the stream is done."""
        self.call("cudaStreamSynchronize", self.stream)

    def event(self) -> Any:
        """Return a new mark that can be set in the stream."""
        made = self.call("cudaEventCreate")
        self._later("cudaEventDestroy", made)
        return made

    def mark(self, event: Any) -> None:
        """Set a mark at this place of the stream."""
        self.call("cudaEventRecord", event, self.stream)

    def milliseconds(self, start: Any, end: Any) -> float:
        """Return the time between two marks that the stream has passed."""
        return float(self.call("cudaEventElapsedTime", start, end))

    def record(self, work: Callable[[], None]) -> Any:
        """Return a graph of what `work` puts into the stream, without running it."""
        mode = self._runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self.call("cudaStreamBeginCapture", self.stream, mode)
        try:
            work()
        finally:
            graph = self.call("cudaStreamEndCapture", self.stream)
        made = self.call("cudaGraphInstantiate", graph, 0)
        self.call("cudaGraphDestroy", graph)
        self._later("cudaGraphExecDestroy", made)
        return made

    def replay(self, graph: Any) -> None:
        """Run a recorded graph in the stream."""
        self.call("cudaGraphLaunch", graph, self.stream)


def _free(frees: list[Callable[[], Any]]) -> None:
    while frees:
        frees.pop()()
