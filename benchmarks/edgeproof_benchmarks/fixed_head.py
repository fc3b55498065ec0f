"""Cross-entropy and divergence under a frozen head of many classes: met in chunks against all scores at once.

A step is the losses of a batch and the gradient of its features; the head is linear, K rows of W, and the
temperature 4. Memory is what one step adds: on the CPU to the high-water mark of the resident set of a
process of its own, on a GPU to what PyTorch has allocated.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from edgeproof_benchmarks.latency import alternate, ratio
from edgeproof_benchmarks.memory import high_water_bytes
from edgeproof_benchmarks.record import keep, parser
from edgeproof_configs.errors import EdgeproofError
from edgeproof_train.fixed_head import FixedHead, chunk_classes, head_losses

TEMPERATURE, MARGIN, SCORE_DEVIATION = 4.0, 3.2, 4.0
SIZES = ("classes", "dim", "batch", "chunk", "device")


@dataclass(frozen=True)
class Problem:
    """A batch of features (B, D), their labels (B,) and a head of K classes."""

    head: FixedHead
    student: Tensor
    teacher: Tensor
    label: Tensor
    chunk: int

    def chunked(self) -> Tensor:
        """Return the gradient (B, D) by the streamed losses."""
        student = self.student.clone().requires_grad_()
        entropy, divergence = head_losses(
            student,
            self.head,
            teacher_BD=self.teacher,
            label_B=self.label,
            temperature=TEMPERATURE,
            margin=MARGIN,
            chunk=self.chunk,
        )
        return gradient_of(entropy.mean() + TEMPERATURE**2 * divergence.mean(), student)

    def dense(self) -> Tensor:
        """Return the gradient (B, D) by PyTorch's own losses on all scores (B, K)."""
        student = self.student.clone().requires_grad_()
        rows = self.head.weight.to(student.dtype)
        said, told = student @ rows.T, self.teacher @ rows.T
        margins = torch.full((len(said), 1), -MARGIN, device=said.device)
        entropy = F.cross_entropy(said.scatter_add(1, self.label[:, None], margins), self.label)
        said_log, told_log = (F.log_softmax(scores / TEMPERATURE, dim=1) for scores in (said, told))
        divergence = F.kl_div(said_log, told_log, reduction="batchmean", log_target=True)
        return gradient_of(entropy + TEMPERATURE**2 * divergence, student)

    def ways(self) -> dict[str, Callable[[], Tensor]]:
        """Return both by name."""
        return {"dense": self.dense, "chunked": self.chunked}


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Run both in turns, measure their memory, print and keep the figures."""
    options_parser = parser("fixed_head", __doc__)
    options_parser.add_argument("--classes", type=int, default=50_000, help="K")
    options_parser.add_argument("--dim", type=int, default=1024, help="D")
    options_parser.add_argument("--batch", type=int, default=64, help="B")
    options_parser.add_argument("--chunk", type=int, help="classes at once; chosen if not given")
    options_parser.add_argument("--half", action="store_true", help="hold W in float16")
    options_parser.add_argument("--rounds", type=int, default=7)
    options_parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options_parser.add_argument("--memory-of", choices=("dense", "chunked"), help="print its bytes, no more")
    options = options_parser.parse_args(arguments)
    if options.quick:
        options.classes, options.dim, options.batch, options.chunk, options.rounds = 20_000, 8, 64, 500, 2
    options.chunk = options.chunk or chunk_classes(options.classes, options.batch, options.dim)
    if options.memory_of:
        added = {"added_bytes": added_bytes(problem(options), options.memory_of)}
        print(json.dumps(added))
        return added
    return compare(options, arguments)


def compare(options: Any, arguments: Sequence[str] | None) -> dict[str, Any]:
    """Measure memory, then time."""
    memory = {f"bytes that one step adds, {way}": memory_of(way, options) for way in ("dense", "chunked")}
    both = problem(options)
    dense, chunked = both.dense(), both.chunked()
    difference = float((chunked - dense).norm() / dense.norm())
    found = alternate(timed(both.ways(), options.device), options.rounds)
    return keep(
        options,
        "fixed_head",
        arguments,
        settings={
            **{key: getattr(options, key) for key in SIZES},
            "weights": "float16" if options.half else "float32",
            "torch_threads": torch.get_num_threads(),
        },
        latencies=found,
        ratios={"chunked / dense": ratio(found["chunked"], found["dense"])},
        figures={**memory, "relative difference of the gradients": float(f"{difference:.3g}")},
    )


def problem(options: Any) -> Problem:
    """Return random features and weights; scores have a standard deviation of 4."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.empty(options.classes, options.dim, dtype=torch.float16 if options.half else torch.float32)
    # A little at a time, so that making it leaves no higher mark than holding it.
    for rows in weight.split(1024):
        rows.copy_(torch.randn(rows.shape, generator=generator) * (SCORE_DEVIATION / options.dim**0.5))
    student, teacher = torch.randn(2, options.batch, options.dim, generator=generator).to(options.device)
    label = torch.randint(options.classes, (options.batch,), generator=generator).to(options.device)
    head = FixedHead(weight).to(torch.device(options.device))
    return Problem(head, student, teacher, label, options.chunk)


def timed(ways: dict[str, Callable[[], Tensor]], device: str) -> dict[str, Callable[[], None]]:
    """Return the calls with the wait for a GPU in them."""

    def finished(way: Callable[[], Tensor]) -> None:
        way()
        if device.startswith("cuda"):
            torch.cuda.synchronize()

    return {name: lambda way=way: finished(way) for name, way in ways.items()}


def memory_of(way: str, options: Any) -> int:
    """Return the bytes that one step adds, from a process of its own.

    Raises:
        EdgeproofError: that process failed.
    """
    command = [sys.executable, "-m", "edgeproof_benchmarks.fixed_head", "--memory-of", way]
    command += [word for key in SIZES for word in (f"--{key}", str(getattr(options, key)))]
    done = subprocess.run(
        [*command, *(["--half"] if options.half else [])], capture_output=True, text=True, check=False
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise EdgeproofError(f"memory could not be measured: {last}", where="fixed_head")
    return json.loads(done.stdout)["added_bytes"]


def added_bytes(both: Problem, way: str) -> int:
    """Return the bytes that one step adds at its peak; a tiny step before it loads what all steps need."""
    few = Problem(
        FixedHead(both.head.weight[:64]), both.student[:2], both.teacher[:2], both.label[:2] % 64, both.chunk
    )
    few.ways()[way]()
    if both.student.is_cuda:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        both.ways()[way]()
        return torch.cuda.max_memory_allocated() - before
    before = high_water_bytes()
    both.ways()[way]()
    return high_water_bytes() - before


def gradient_of(loss: Tensor, features: Tensor) -> Tensor:
    """Return the gradient of the features."""
    return torch.autograd.grad(loss, features)[0]


if __name__ == "__main__":
    main()
