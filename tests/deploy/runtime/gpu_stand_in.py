"""A stand-in for what this suite's machines lack: a CUDA device, its driver, and a package that runs plans.

Its "device memory" is memory of the host with addresses, so that what a session copies and computes is real;
a plan is JSON here, and its network is `embedding = mean over the pixels of each channel, times a factor`, of
views the largest of them.
It shows the host's side of a session. It does not show that NVIDIA's packages do as they are documented.
"""

from __future__ import annotations

import ctypes
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edgeproof_deploy.runtime import cuda_device

DRIVER_VERSION = 12060
FACTOR = 2.0


def plan_bytes(
    name: str = "image",
    shape: tuple[int, ...] = (-1, 3, 4, 4),
    batch: tuple[int, int] = (1, 4),
    views: tuple[int, int] | None = None,
) -> bytes:
    """Return what the stand-in takes for a plan."""
    return json.dumps({"input": name, "shape": shape, "batch": batch, "views": views}).encode()


def expected(images: np.ndarray) -> np.ndarray:
    """Return what the network of every plan computes, float32 (B, 3)."""
    means = images.mean(axis=(-2, -1)) * FACTOR
    return (means.max(axis=1) if images.ndim == 5 else means).astype(np.float32)


@dataclass
class Gpu:
    """The device, as its driver and CUDA's runtime show it.

    Attributes:
        failing: function of CUDA's runtime -> the error code that it gives.
        enqueued: batch size of each run of the network, in order.
        recorded: batch size of each graph that was recorded.
        live: what was made and not yet freed.
    """

    capability: tuple[int, int] = (8, 6)
    failing: dict[str, int] = field(default_factory=dict)
    enqueued: list[int] = field(default_factory=list)
    recorded: list[int] = field(default_factory=list)
    live: dict[int, Any] = field(default_factory=dict)
    recording: list[Callable[[], int]] | None = None
    kernels_accepted: bool = True

    def submit(self, work: Callable[[], int]) -> None:
        if self.recording is not None:
            self.recording.append(work)
        else:
            self.enqueued.append(work())

    def driver(self) -> SimpleNamespace:
        """Return the functions of libcuda.so.1 that are called; `ctypes.byref(x)._obj` is x."""

        def put(value: int) -> Callable[..., int]:
            def function(at: Any, *_: Any) -> int:
                at._obj.value = value
                return 0

            return function

        def name(buffer: Any, *_: Any) -> int:
            buffer.value = b"Stand-in GPU"
            return 0

        def attribute(at: Any, which: int, *_: Any) -> int:
            at._obj.value = self.capability[which - cuda_device.MAJOR]
            return 0

        return SimpleNamespace(
            cuInit=lambda flags: 0,
            cuDeviceGetCount=put(1),
            cuDeviceGet=put(0),
            cuDeviceGetName=name,
            cuDeviceGetAttribute=attribute,
            cuDriverGetVersion=put(DRIVER_VERSION),
        )


class CudaRuntime(ModuleType):
    """`cuda.bindings.runtime` of the stand-in: every function returns an error code and its values."""

    def __init__(self, gpu: Gpu):
        super().__init__("cuda.bindings.runtime")
        self.gpu, self._next = gpu, 1
        self.cudaMemcpyKind = SimpleNamespace(cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2)
        self.cudaStreamCaptureMode = SimpleNamespace(cudaStreamCaptureModeThreadLocal=1)

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if name.startswith("cuda") and callable(found) and name in self.gpu.failing:
            return lambda *_: (self.gpu.failing[name], None)
        return found

    def _make(self, what: Any) -> tuple[int, int]:
        self._next += 1
        self.gpu.live[self._next] = what
        return 0, self._next

    def _drop(self, handle: int) -> tuple[int]:
        del self.gpu.live[handle]
        return (0,)

    def _memory(self, count: int) -> tuple[int, int]:
        memory = (ctypes.c_uint8 * count)()
        self.gpu.live[ctypes.addressof(memory)] = memory
        return 0, ctypes.addressof(memory)

    def cudaGetErrorString(self, error: int) -> tuple[int, bytes]:  # noqa: N802
        return 0, f"error number {error}".encode()

    def cudaMemcpyAsync(self, to: int, source: int, count: int, kind: int, stream: int) -> tuple[int]:  # noqa: N802
        ctypes.memmove(to, source, count)
        return (0,)

    def cudaStreamEndCapture(self, stream: int) -> tuple[int, Any]:  # noqa: N802
        work, self.gpu.recording = self.gpu.recording, None
        return self._make(work)

    def cudaStreamBeginCapture(self, stream: int, mode: int) -> tuple[int]:  # noqa: N802
        self.gpu.recording = []
        return (0,)

    def cudaGraphInstantiate(self, graph: int, flags: int) -> tuple[int, int]:  # noqa: N802
        return self._make(self.gpu.live[graph])

    def cudaGraphLaunch(self, graph: int, stream: int) -> tuple[int]:  # noqa: N802
        for work in self.gpu.live[graph]:
            self.gpu.recorded.append(work())
        return (0,)

    cudaMalloc = cudaMallocHost = _memory  # noqa: N815
    cudaFree = cudaFreeHost = cudaStreamDestroy = cudaEventDestroy = _drop  # noqa: N815
    cudaGraphDestroy = cudaGraphExecDestroy = _drop  # noqa: N815

    def cudaStreamCreate(self) -> tuple[int, int]:  # noqa: N802
        return self._make("stream")

    def cudaEventCreate(self) -> tuple[int, int]:  # noqa: N802
        return self._make("event")

    def cudaEventRecord(self, event: int, stream: int) -> tuple[int]:  # noqa: N802
        return (0,)

    def cudaStreamSynchronize(self, stream: int) -> tuple[int]:  # noqa: N802
        return (0,)

    def cudaEventElapsedTime(self, start: int, end: int) -> tuple[int, float]:  # noqa: N802
        return 0, float(end - start)


class Context:
    """An execution context; it computes from addresses alone, as a device does."""

    def __init__(self, gpu: Gpu, plan: dict[str, Any]):
        self.gpu, self.plan = gpu, plan
        self.shape: tuple[int, ...] = ()
        self.addresses: dict[str, int] = {}

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        low, high = self.plan["batch"]
        assert name == self.plan["input"]
        assert low <= shape[0] <= high
        if self.plan["views"]:
            assert self.plan["views"][0] <= shape[1] <= self.plan["views"][1]
        self.shape = tuple(shape)
        return True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (self.shape[0], 3)

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        shape = self.shape

        def work() -> int:
            count = int(np.prod(shape))
            source = (ctypes.c_float * count).from_address(self.addresses[self.plan["input"]])
            images = np.ctypeslib.as_array(source).reshape(shape)
            target = (ctypes.c_float * (shape[0] * 3)).from_address(self.addresses["embedding"])
            np.ctypeslib.as_array(target)[:] = expected(images).ravel()
            return shape[0]

        self.gpu.submit(work)
        return True


class Plan:
    """A deserialised plan."""

    num_io_tensors = 2

    def __init__(self, gpu: Gpu, described: dict[str, Any]):
        self.gpu, self.described = gpu, described
        self.names = ["embedding", described["input"]]

    def get_tensor_name(self, number: int) -> str:
        return self.names[number]

    def get_tensor_mode(self, name: str) -> str:
        return "input" if name == self.described["input"] else "output"

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return tuple(self.described["shape"]) if name == self.described["input"] else (-1, 3)

    def get_tensor_profile_shape(self, name: str, number: int) -> list[tuple[int, ...]]:
        low, high = self.described["batch"]
        rest = tuple(self.described["shape"][1:])
        if self.described["views"]:
            fewest, most = self.described["views"]
            return [(low, fewest, *rest[1:]), (low, most, *rest[1:]), (high, most, *rest[1:])]
        return [(low, *rest), (low, *rest), (high, *rest)]

    def get_tensor_dtype(self, name: str) -> str:
        return "float"

    def create_execution_context(self, config: Any = None) -> Context:
        return Context(self.gpu, self.described)

    def create_runtime_config(self) -> SimpleNamespace:
        cache = SimpleNamespace(
            serialize=lambda: b"compiled kernels",
            deserialize=lambda blob: self.gpu.kernels_accepted and blob == b"compiled kernels",
        )
        return SimpleNamespace(create_runtime_cache=lambda: cache, set_runtime_cache=lambda cache: True)

    def create_engine_inspector(self) -> SimpleNamespace:
        told = json.dumps({"Layers": [{"Name": "pool", "LayerType": "Pooling"}]})
        return SimpleNamespace(get_engine_information=lambda form: told)


class Package(ModuleType):
    """`tensorrt` or `tensorrt_rtx`: it loads and runs plans; what builds is the real package, if any."""

    TensorIOMode = SimpleNamespace(INPUT="input")
    LayerInformationFormat = SimpleNamespace(JSON="json")
    DynamicShapesKernelSpecializationStrategy = SimpleNamespace(EAGER="eager")
    CudaGraphStrategy = SimpleNamespace(WHOLE_GRAPH_CAPTURE="whole")

    def __init__(self, name: str, version: str, gpu: Gpu, real: Any = None):
        super().__init__(name)
        self.__version__, self.gpu, self.real = version, gpu, real
        self.__spec__ = ModuleSpec(name, None)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["real"], name)

    @property
    def ILogger(self) -> type:  # noqa: N802
        return self.real.ILogger if self.real else StandInLogger

    def nptype(self, dtype: str) -> type:
        return np.float32

    def Runtime(self, log: Any) -> SimpleNamespace:  # noqa: N802
        def load(plan: bytes) -> Plan | None:
            try:
                return Plan(self.gpu, json.loads(plan))
            except ValueError:
                if self.real is not None:
                    # A plan that the real package built: its network is of no concern here.
                    return Plan(self.gpu, json.loads(plan_bytes(shape=(-1, 3, 32, 32), batch=(1, 8))))
                log.log(self.ILogger.ERROR, "the plan is damaged\nat some place")
                log.log(self.ILogger.ERROR, "a consequence")
                return None

        return SimpleNamespace(deserialize_cuda_engine=load, engine_host_code_allowed=False)


class StandInLogger:
    INTERNAL_ERROR, ERROR = 0, 1


def install(
    patch: pytest.MonkeyPatch,
    name: str = "tensorrt",
    version: str = "10.3.0",
    real: Any = None,
    cuda: str = "cuda.bindings.runtime",
) -> Gpu:
    """Put the stand-in where the driver, cuda-python and a package are looked for, and return the device."""
    gpu = Gpu()
    found = ctypes.CDLL

    def load(library: str, *rest: Any, **options: Any) -> Any:
        return gpu.driver() if library == cuda_device.DRIVER else found(library, *rest, **options)

    patch.setattr(cuda_device.ctypes, "CDLL", load)
    patch.setattr(cuda_device, "release", lambda: None)
    runtime = CudaRuntime(gpu)
    runtime.__name__ = cuda
    modules: list[ModuleType] = [runtime, Package(name, version, gpu, real), ModuleType("cuda")]
    if cuda.startswith("cuda.bindings"):
        modules.append(ModuleType("cuda.bindings"))
    else:
        patch.setitem(sys.modules, "cuda.bindings", None)
    for module in modules:
        module.__spec__ = ModuleSpec(module.__name__, None)
        patch.setitem(sys.modules, module.__name__, module)
    patch.setattr("edgeproof_deploy.runtime.tensorrt_package._logs", {})
    return gpu
