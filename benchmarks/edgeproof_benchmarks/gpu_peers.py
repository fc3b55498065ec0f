"""A student on a GPU: PyTorch as it is and compiled, in fp32, fp16 and bf16, and ONNX Runtime with CUDA.

Each way is compared with the student in fp32 on the CPU first, on the same batch, and what is too far is not
timed. Then the ways of a precision and PyTorch in fp32 take turns at each batch size. Images start in the
memory of the host and embeddings end there; products in fp32 are in fp32, not in TF32.

No machine with a GPU was at hand: this has been run with `--device cpu` only, where its figures say little.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgeproof_benchmarks.latency import Latency, Ratio, interleave, ratio
from edgeproof_benchmarks.machine.conditions import Watch
from edgeproof_benchmarks.peer_student import make_student
from edgeproof_benchmarks.phases import images_per_second
from edgeproof_benchmarks.record import Timing, keep, parser, timing_of
from edgeproof_configs.errors import EdgeproofError, GateError, MissingPackageError
from edgeproof_deploy.export import export_onnx
from edgeproof_deploy.half import to_fp16
from edgeproof_deploy.numerics import Numerics, numerics
from edgeproof_deploy.runtime.cuda_device import why_no_cuda
from edgeproof_deploy.runtime.errors import UnavailableError
from edgeproof_deploy.runtime.model_interface import Session
from edgeproof_deploy.runtime.session import OnnxSession
from edgeproof_deploy.torch_session import CompiledSession, TorchSession
from edgeproof_train.student import Student

PYTORCH = "PyTorch fp32"
PRECISIONS = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
COSINE_LIMITS = {"fp32": 0.99999, "fp16": 0.999, "bf16": 0.99}
BATCHES = (1, 8, 32, 64, 128, 256)
COMPARED = 16
"""Images on which each way is compared with the CPU."""


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Open the student in each way, compare, measure in turns, print and keep the figures.

    Raises:
        MissingPackageError: there is no CUDA device, or one of PyTorch and ONNX Runtime cannot use it.
        GateError: a way gives something else than the student on the CPU.
    """
    options_parser = parser("gpu_peers", __doc__, seconds=5.0)
    options_parser.add_argument("--model", default="resnet18", help="timm's name")
    options_parser.add_argument("--image-size", type=int, default=224)
    options_parser.add_argument("--batch", type=int, action="append", help="repeatable; 1 to 256 if none")
    options_parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    options_parser.add_argument("--backend", default="inductor", help="of torch.compile")
    options = options_parser.parse_args(arguments)
    check_device(options.device)
    sizes, side = tuple(options.batch or BATCHES), options.image_size
    student = make_student(options.model, side)
    pixels = np.random.default_rng(0).standard_normal((max(COMPARED, *sizes), 3, side, side))
    found, watch = Measured(), Watch(uses_gpu=options.device == "cuda")
    with tempfile.TemporaryDirectory() as place, without_tf32():
        peers = Peers(student, options.device, options.backend, pixels.astype(np.float32), Path(place))
        for precision in PRECISIONS:
            measure(peers, precision, sizes, timing_of(options), found, watch)
    return keep(
        options,
        "gpu_peers",
        arguments,
        settings={"model": options.model, "image_size": side, "device": options.device},
        latencies=found.latencies,
        ratios=found.ratios,
        figures={"images_per_second": rates(found.latencies), "parity": found.parity},
        conditions=watch.end(found.latencies),
    )


@dataclass
class Measured:
    """Latencies by way and batch size, their ratios to PyTorch in fp32, and how far a way is from the CPU."""

    latencies: dict[str, Latency] = field(default_factory=dict)
    ratios: dict[str, Ratio] = field(default_factory=dict)
    parity: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Peers:
    """What is run: a student, where, on which images (N, 3, H, W); its ONNX files go into `folder`."""

    student: Student
    device: str
    backend: str
    images: np.ndarray
    folder: Path

    def opened(self, precision: str, stack: ExitStack) -> dict[str, Session]:
        """Return a session for each way of a precision, and for PyTorch in fp32.

        Raises:
            MissingPackageError: ONNX Runtime cannot use the device.
        """
        dtype = PRECISIONS[precision]
        eager, compiled = deepcopy(self.student), deepcopy(self.student)
        # All compiled students share one limit of recompilations, which the precisions would use up.
        torch.compiler.reset()
        sessions: dict[str, Session] = {
            PYTORCH: TorchSession(deepcopy(self.student), self.device),
            f"PyTorch {precision}": TorchSession(eager, self.device, dtype=dtype),
            f"compiled PyTorch {precision}": CompiledSession(
                compiled, self.device, backend=self.backend, dtype=dtype
            ),
        }
        file = self.onnx_file(precision)
        if file is not None:
            try:
                session = OnnxSession(file, device=self.device, name=file.name)
            except UnavailableError as error:
                raise MissingPackageError(str(error), fix="see `edgeproof ls engines`") from error
            sessions[f"ONNX Runtime {precision}"] = session
        for session in sessions.values():
            stack.callback(session.close)
        return sessions

    def onnx_file(self, precision: str) -> Path | None:
        """Return the file that ONNX Runtime reads of a precision; we write none in bf16."""
        whole, half = self.folder / "model.onnx", self.folder / "model.fp16.onnx"
        if precision == "bf16":
            return None
        if not whole.exists():
            export_onnx(self.student, whole)
        if precision == "fp32":
            return whole
        to_fp16(whole, half, self.images[:COMPARED])
        return half


def measure(
    peers: Peers, precision: str, sizes: Sequence[int], timing: Timing, found: Measured, watch: Watch
) -> None:
    """Compare the ways of a precision, measure them in turns with PyTorch in fp32, add what was found."""
    with ExitStack() as stack:
        sessions = peers.opened(precision, stack)
        found.parity |= compared(peers.student, sessions, peers.images[:COMPARED])
        for batch in sizes:
            inputs = {"image": peers.images[:batch]}
            calls = {name: lambda one=one, inputs=inputs: one.run(inputs) for name, one in sessions.items()}
            times = interleave(calls, **timing.keywords())
            watch.look()
            for name, latency in times.items():
                found.latencies.setdefault(f"{name}, batch {batch}", latency)
                if name != PYTORCH:
                    over = ratio(latency, times[PYTORCH])
                    found.ratios[f"{name} / {PYTORCH}, batch {batch}"] = over


def rates(latencies: Mapping[str, Latency]) -> dict[str, float]:
    """Return images per second by way and batch size."""
    return {
        name: round(images_per_second(found, int(name.rpartition(" ")[2])), 1)
        for name, found in latencies.items()
    }


def check_device(device: str) -> None:
    """Refuse to go on without the device.

    Raises:
        MissingPackageError: says what is missing.
    """
    if device == "cpu":
        return
    missing = why_no_cuda()
    if missing is None and not torch.cuda.is_available():
        missing = f"this PyTorch ({torch.__version__}) cannot use the CUDA device"
    if missing is not None:
        fix = "run it on a machine with a GPU; --device cpu only shows that it runs"
        raise MissingPackageError(missing, fix=fix)


@contextmanager
def without_tf32() -> Iterator[None]:
    """Keep products of fp32 in fp32 within the block."""
    flags: tuple[Any, ...] = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [flag.allow_tf32 for flag in flags]
    try:
        for flag in flags:
            flag.allow_tf32 = False
        yield
    finally:
        for flag, value in zip(flags, before, strict=True):
            flag.allow_tf32 = value


def compared(
    student: Student, sessions: Mapping[str, Session], images: np.ndarray
) -> dict[str, dict[str, Any]]:
    """Return how far each way is from the student in fp32 on the CPU, by name.

    Raises:
        GateError: one gives NaN, or a cosine below the limit of its precision.
    """
    reference = TorchSession(deepcopy(student)).run({"image": images})["embedding"]
    found: dict[str, Numerics] = {}
    for name, session in sessions.items():
        found[name] = numerics(reference, session.run({"image": images})["embedding"])
        limit, cosine = COSINE_LIMITS[name.rpartition(" ")[2]], found[name].cosine_min
        if found[name].nan or cosine is None or cosine < limit:
            shown = "NaN" if cosine is None else f"a cosine of {cosine:.7g}"
            raise GateError(
                f"{name} gives {shown} to the student on the CPU ({found[name].nan} images not finite),"
                f" must be at least {limit:g}"
            )
    return {name: asdict(one) for name, one in found.items()}


if __name__ == "__main__":
    try:
        main()
    except EdgeproofError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
