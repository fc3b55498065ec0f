"""Our export and session against plain `torch.onnx` files, bare ONNX Runtime and Polygraphy's runner.

The same student, with random weights (speed does not depend on them), once by `edgeproof_deploy.export` and
once by `torch.onnx.export` alone, by either of its exporters. All of them run in ONNX Runtime on the CPU with
the same number of threads. Polygraphy's `OnnxrtRunner`, what `polygraphy run --onnxrt` runs, reads our file
as a second opinion: what it gives has to be equal to the last bit.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from torch import nn

from edgeproof_benchmarks.latency import interleave, ratio
from edgeproof_benchmarks.machine.conditions import Watch
from edgeproof_benchmarks.peer_student import make_student
from edgeproof_benchmarks.record import keep, parser, timing_of
from edgeproof_deploy.export import export_onnx
from edgeproof_deploy.runtime.session import OnnxSession
from edgeproof_train.student import Student

OURS, BARE, POLYGRAPHY = "edgeproof", "bare onnxruntime, our file", "polygraphy, our file"
PLAIN = {"torch.onnx (dynamo)": True, "torch.onnx (TorchScript)": False}
ROUNDS_MORE = 3
"""Short rounds: the differences are small beside the drift of a machine."""
Call = Callable[[], np.ndarray]


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Export in each way, check that all agree, run them in turns, print and keep the figures."""
    options_parser = parser("export_peers", __doc__, seconds=20.0)
    options_parser.add_argument("--model", default="resnet18", help="timm's name")
    options_parser.add_argument("--image-size", type=int, default=224)
    options_parser.add_argument("--threads", type=int, default=1)
    options = options_parser.parse_args(arguments)
    student = make_student(options.model, options.image_size)
    pixels = np.random.default_rng(0).standard_normal((1, 3, options.image_size, options.image_size))
    image = pixels.astype(np.float32)
    with tempfile.TemporaryDirectory() as place, ExitStack() as stack:
        files = write_files(student, Path(place), options.image_size)
        calls = calls_of(files, image, options.threads, stack)
        watch = Watch()
        timing = timing_of(options)
        times = interleave(
            calls,
            seconds=timing.seconds,
            warmup_seconds=timing.warmup_seconds,
            rounds=timing.rounds * ROUNDS_MORE,
        )
        conditions = watch.end(times)
        figures = {
            "nodes": {name: len(onnx.load(file).graph.node) for name, file in files.items()},
            "bytes": {name: file.stat().st_size for name, file in files.items()},
            "max_abs_difference": differences(calls),
        }
    return keep(
        options,
        "export_peers",
        arguments,
        settings={"model": options.model, "image_size": options.image_size, "threads": options.threads},
        latencies=times,
        ratios={f"edgeproof / {name}": ratio(times[OURS], times[name]) for name in times if name != OURS},
        figures=figures,
        conditions=conditions,
    )


class Embedding(nn.Module):
    """A student that gives a tensor, as the exporters want it."""

    def __init__(self, student: Student):
        super().__init__()
        self.student = student

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return the embedding (B, D) of images (B, 3, H, W)."""
        return self.student(image).embedding


def write_files(student: Student, folder: Path, side: int) -> dict[str, Path]:
    """Write the student's ONNX file in each way, with a dynamic batch and opset 18."""
    files = {OURS: folder / "ours.onnx"}
    export_onnx(student, files[OURS])
    for number, (name, dynamo) in enumerate(PLAIN.items()):
        files[name] = folder / f"plain{number}.onnx"
        axes: dict[str, Any] = (
            {"dynamic_shapes": {"image": {0: torch.export.Dim("batch", min=1)}}, "external_data": False}
            if dynamo
            else {"dynamic_axes": {"image": {0: "batch"}, "embedding": {0: "batch"}}}
        )
        with warnings.catch_warnings():
            # The TorchScript exporter is deprecated and says so; it is here to be compared with.
            warnings.simplefilter("ignore")
            torch.onnx.export(
                Embedding(student).eval(),
                (torch.zeros(2, 3, side, side),),
                files[name],
                dynamo=dynamo,
                opset_version=18,
                input_names=["image"],
                output_names=["embedding"],
                verbose=False,
                **axes,
            )
    return files


def calls_of(files: dict[str, Path], image: np.ndarray, threads: int, stack: ExitStack) -> dict[str, Call]:
    """Return what runs one image in each way."""
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    ours = OnnxSession(files[OURS], threads=threads)
    stack.callback(ours.close)
    calls: dict[str, Call] = {OURS: lambda: ours.run({"image": image})["embedding"]}

    def bare(file: Path) -> Call:
        session = onnxruntime.InferenceSession(str(file), settings, providers=["CPUExecutionProvider"])
        return lambda: np.asarray(session.run(["embedding"], {"image": image})[0])

    calls[BARE] = bare(files[OURS])
    calls |= {name: bare(files[name]) for name in PLAIN}
    calls[POLYGRAPHY] = polygraphy_call(files[OURS], image, settings, stack)
    return calls


def polygraphy_call(file: Path, image: np.ndarray, settings: Any, stack: ExitStack) -> Call:
    """Return what runs one image in Polygraphy's runner, with the same settings of ONNX Runtime."""
    from polygraphy.backend.onnxrt import OnnxrtRunner

    def session() -> Any:
        return onnxruntime.InferenceSession(str(file), settings, providers=["CPUExecutionProvider"])

    runner: Any = stack.enter_context(OnnxrtRunner(session))
    return lambda: runner.infer({"image": image})["embedding"]


def differences(calls: dict[str, Call]) -> dict[str, float]:
    """Return the largest difference of an output from ours, for each other way."""
    ours = calls[OURS]()
    return {name: float(np.abs(call() - ours).max()) for name, call in calls.items() if name != OURS}


if __name__ == "__main__":
    main()
