"""Running a plan of TensorRT or TensorRT-RTX on this machine's GPU: numpy and cuda-python, no PyTorch.

No machine with an NVIDIA GPU was at hand when this was written: it follows the documented interface, whose
classes and functions TensorRT-RTX's package shows, and the tests run it against a stand-in for the device.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from time import perf_counter
from typing import Any

import numpy as np

from edgeproof_deploy.runtime.cache_folder import keep
from edgeproof_deploy.runtime.cuda_memory import CudaMemory
from edgeproof_deploy.runtime.errors import BundleError, UnavailableError
from edgeproof_deploy.runtime.model_interface import Session, check_tensors, checked_input
from edgeproof_deploy.runtime.tensorrt_package import (
    PLAN_ENGINES,
    RTX,
    complaints_of,
    first_of,
    import_package,
    log_of,
)

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Tensor:
    """An input or output of a plan with its memory, which suffices for the largest batch.

    Attributes:
        shape: -1 stands for the batch, and for the number of views.
        smallest: shape of the smallest batch that the plan takes; of an output it is empty.
        largest: shape of the largest batch.
        host: bytes on the host, uint8 (N,).
        device: address on the device.
    """

    name: str
    dtype: np.dtype
    shape: Shape
    smallest: Shape
    largest: Shape
    host: np.ndarray
    device: int

    def rows(self, batch: int) -> np.ndarray:
        """Return the host's memory as an array of that many rows."""
        return self.view((batch, *self.largest[1:]))

    def view(self, shape: Shape) -> np.ndarray:
        """Return the host's memory as an array of a shape, which is no larger than the largest."""
        return self.host[: math.prod(shape) * self.dtype.itemsize].view(self.dtype).reshape(shape)


class PlanSession(Session):
    """A plan on the first CUDA device. Threads may share it; their calls wait for each other.

    A batch above the plan's largest is run in parts of nearly equal size.

    Args:
        plan: the bytes of the plan, which has been compared with its sidecar.
        engine: `tensorrt` or `tensorrt_rtx`.
        name: what the plan is called in an error.
        cuda_graph: record each batch size as one CUDA graph, and replay it.
        host_code: let the plan bring code for the host, as version-compatible plans do.
        kernel_cache: TensorRT-RTX only: file of the kernels that were compiled when the plan was loaded here
            before; it is written where it is missing.

    Attributes:
        load_seconds: what loading took, which is no part of any latency: `deserialise`, `context` and
            `first_run`. TensorRT-RTX compiles its kernels then.
        kernels: whether they came from the cache: `compiled`, `cached`, or why they were not kept.
        largest_batch: that the plan takes at once.

    Raises:
        UnavailableError: package, cuda-python or device are missing.
        BundleError: the plan cannot be loaded, or has other inputs or outputs than ours.
    """

    def __init__(
        self,
        plan: bytes,
        engine: str,
        *,
        name: str,
        cuda_graph: bool = False,
        host_code: bool = False,
        kernel_cache: Path | None = None,
    ):
        package = import_package(engine)
        self.model, self.engine, self._package = name, engine, package
        self.memory = CudaMemory()
        self._one_at_a_time = Lock()
        self.load_seconds: dict[str, float] = {}
        self._context: Any = None
        self._use_graphs = cuda_graph
        start = perf_counter()
        with complaints_of(package) as complaints:
            runtime = package.Runtime(log_of(package))
            if host_code:
                runtime.engine_host_code_allowed = True
            self._plan: Any = runtime.deserialize_cuda_engine(plan)
            if self._plan is None:
                told = f"cannot be loaded by {PLAN_ENGINES[engine]} {package.__version__}"
                raise BundleError(name, f"{told}: {first_of(complaints)}")
            self._took("deserialise", start)
            cache = self._make_context(kernel_cache, complaints)
        self._tensors = self._make_tensors()
        self.inputs = {key: tensor.shape for key, tensor in self._tensors.items() if tensor.smallest}
        self.outputs = {key: tensor.shape for key, tensor in self._tensors.items() if not tensor.smallest}
        check_tensors(self.inputs, self.outputs, name)
        self._input = self._tensors[next(iter(self.inputs))]
        self.largest_batch = self._input.largest[0]
        self.providers = (PLAN_ENGINES[engine],)
        self._marks = [self.memory.event() for _ in range(4)]
        self._shape: Shape = ()
        self._graphs: dict[Shape, Any] = {}
        start = perf_counter()
        self.run({self._input.name: np.zeros(self._input.smallest, self._input.dtype)})
        self._took("first_run", start)
        self._cache, self._cache_file, self._kept = cache, kernel_cache, 0
        self._keep_kernels()

    def _took(self, what: str, start: float) -> None:
        self.load_seconds[what] = perf_counter() - start

    def _make_context(self, kernel_cache: Path | None, complaints: list[str]) -> Any:
        """Make the context, and return the cache of its kernels where there is one."""
        start, cache = perf_counter(), None
        if self.engine == RTX:
            config = self._plan.create_runtime_config()
            # Else kernels for a batch size are compiled beside its first runs, which then differ in speed.
            eager = self._package.DynamicShapesKernelSpecializationStrategy.EAGER
            config.dynamic_shapes_kernel_specialization_strategy = eager
            if self._use_graphs:
                config.cuda_graph_strategy = self._package.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
            cache = config.create_runtime_cache()
            known = kernel_cache.read_bytes() if kernel_cache and kernel_cache.is_file() else b""
            # The package itself refuses kernels of another version, device or driver.
            self.kernels = "cached" if known and cache.deserialize(known) else "compiled"
            config.set_runtime_cache(cache)
            self._context = self._plan.create_execution_context(config)
        else:
            self._context = self._plan.create_execution_context()
        if self._context is None:
            raise UnavailableError(
                f"{self.model} cannot be made ready on this device: {first_of(complaints)}"
            )
        self._took("context", start)
        return cache

    def _keep_kernels(self) -> None:
        """Write the compiled kernels to the cache where they are new; TensorRT-RTX only."""
        if self._cache is None or self._cache_file is None:
            return
        kernels = bytes(self._cache.serialize())
        known = self._cache_file.stat().st_size if self.kernels == "cached" and not self._kept else self._kept
        if len(kernels) == known:
            return
        try:
            keep(self._cache_file, kernels)
            self._kept = len(kernels)
        except OSError as error:
            self.kernels = f"compiled, and not kept for the next time: {error}"

    def _make_tensors(self) -> dict[str, Tensor]:
        """Return inputs, then outputs, with memory for the largest batch."""
        plan, mode = self._plan, self._package.TensorIOMode.INPUT
        names = [plan.get_tensor_name(number) for number in range(plan.num_io_tensors)]
        found: dict[str, Tensor] = {}
        for name in sorted(names, key=lambda name: plan.get_tensor_mode(name) != mode):
            smallest: Shape = ()
            if plan.get_tensor_mode(name) == mode:
                smallest, _, largest = (tuple(shape) for shape in plan.get_tensor_profile_shape(name, 0))
                self._context.set_input_shape(name, largest)
            else:
                largest = tuple(self._context.get_tensor_shape(name))
            dtype = np.dtype(self._package.nptype(plan.get_tensor_dtype(name)))
            count = math.prod(largest) * dtype.itemsize
            host, device = self.memory.on_host(count), self.memory.on_device(count)
            self._context.set_tensor_address(name, device)
            shape = tuple(plan.get_tensor_shape(name))
            found[name] = Tensor(name, dtype, shape, smallest, largest, host, device)
        return found

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return every output by name.

        Raises:
            ValueError: the input has another name, type or shape than the plan's, or the session is closed.
            UnavailableError: the device fails.
        """
        with self._one_at_a_time:
            images = self._checked(inputs)
            count = -(-len(images) // self.largest_batch)
            parts = [self._run_part(part) for part in np.array_split(images, count)]
            self.phases = {key: sum(taken[key] for _, taken in parts) for key in parts[0][1]}
        return {key: np.concatenate([found[key] for found, _ in parts]) for key in self.outputs}

    def _checked(self, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the images, which fit the plan."""
        if not self.memory.close.alive:
            raise ValueError(f"the session of {self.model} is closed")
        images = checked_input(inputs, self.inputs, self.model, self._input.dtype)
        parts = -(-len(images) // self.largest_batch)
        if len(images) // parts < self._input.smallest[0]:
            low, high = self._input.smallest[0], self.largest_batch
            raise ValueError(f"{self.model} is built for batches of {low} to {high}, got {len(images)}")
        low, high = self._input.smallest[1], self._input.largest[1]
        if not low <= images.shape[1] <= high:
            raise ValueError(
                f"{self.model} is built for {low} to {high} views of an object, got {images.shape[1]}"
            )
        return images

    def _run_part(self, images: np.ndarray) -> tuple[dict[str, np.ndarray], dict[str, float]]:
        """Run a batch that the plan takes at once; return the outputs, and milliseconds by phase."""
        memory, batch, entry = self.memory, len(images), self._input
        if images.shape != self._shape:
            self._context.set_input_shape(entry.name, images.shape)
            self._shape = images.shape
        np.copyto(entry.view(images.shape), images)
        memory.mark(self._marks[0])
        memory.copy_in(entry.device, entry.host, images.nbytes)
        memory.mark(self._marks[1])
        self._compute(images.shape)
        memory.mark(self._marks[2])
        outputs = [self._tensors[name] for name in self.outputs]
        for tensor in outputs:
            memory.copy_out(tensor.host, tensor.device, tensor.rows(batch).nbytes)
        memory.mark(self._marks[3])
        memory.wait()
        spans = zip(("copy_in", "compute", "copy_out"), self._marks, self._marks[1:], strict=False)
        taken = {name: memory.milliseconds(start, end) for name, start, end in spans}
        return {tensor.name: tensor.rows(batch).copy() for tensor in outputs}, taken

    def _compute(self, shape: Shape) -> None:
        """Put the network into the stream, or the graph of inputs of this shape."""
        if not self._use_graphs or self.engine == RTX:
            # TensorRT-RTX makes its graphs itself.
            self._enqueue()
            return
        if shape not in self._graphs:
            # The first run of a shape may allocate, which no graph can record.
            self._enqueue()
            self.memory.wait()
            self._graphs[shape] = self.memory.record(self._enqueue)
        self.memory.replay(self._graphs[shape])

    def _enqueue(self) -> None:
        if not self._context.execute_async_v3(int(self.memory.stream)):
            raise UnavailableError(
                f"{self.model} fails on this device: {first_of(log_of(self._package).errors)}"
            )

    def inspect(self) -> str:
        """Return what the package tells about the layers of the plan, as JSON of its own."""
        inspector = self._plan.create_engine_inspector()
        inspector.execution_context = self._context
        return str(inspector.get_engine_information(self._package.LayerInformationFormat.JSON))

    def close(self) -> None:
        """Free the plan and its memory; closing twice does nothing."""
        if self.memory.close.alive:
            self._keep_kernels()
            self._context = self._plan = self._cache = None
            self.memory.close()
