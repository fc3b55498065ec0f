"""Mixed precision, channels-last layout and compiling, one after the other, against eager fp32 on a GPU.

A step is the student's forward pass, a cosine loss to stored embeddings, the backward pass, clipping and the
optimizer, on one synthetic batch that lies on the device. All take turns, several steps at a time. Each
setting is that of the recipe (`train.precision: bf16`, `channels_last`, `compile`), and each way has those
before it. Eager fp32 is PyTorch as it comes: whether its convolutions round to TF32 is noted in the settings.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from edgeproof_benchmarks.latency import alternate, ratio
from edgeproof_benchmarks.record import keep, parser
from edgeproof_configs.errors import MissingPackageError
from edgeproof_configs.schema import TrainConfig
from edgeproof_data.loader import Batch
from edgeproof_train.loss import LossContext
from edgeproof_train.losses.cosine_embedding import CosineEmbedding
from edgeproof_train.optim import make_optimizer
from edgeproof_train.outputs import ModelOutputs
from edgeproof_train.students.timm import TimmStudent
from edgeproof_train.task import DistillTask

DIM = 512
EAGER = "eager fp32"


@dataclass(frozen=True)
class Way:
    """Which settings a step is done with."""

    bf16: bool = False
    channels_last: bool = False
    compile: bool = False


WAYS = {
    EAGER: Way(),
    "bf16": Way(bf16=True),
    "bf16, channels last": Way(bf16=True, channels_last=True),
    "bf16, channels last, compiled": Way(bf16=True, channels_last=True, compile=True),
}


class StoredRows:
    """Embeddings of one batch, in memory."""

    embedding_dim = DIM

    def __init__(self, rows: torch.Tensor):
        self.rows = rows

    def __call__(self, batch: Batch) -> ModelOutputs:
        """Return them."""
        return ModelOutputs(self.rows)


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Train in every way in turns, print and keep the figures.

    Raises:
        MissingPackageError: there is no GPU.
    """
    options_parser = parser("train_speed", __doc__)
    options_parser.add_argument("--model", default="resnet50", help="any timm name")
    options_parser.add_argument("--image-size", type=int, default=224)
    options_parser.add_argument("--batch", type=int, default=128)
    options_parser.add_argument("--steps", type=int, default=20, help="at a time")
    options_parser.add_argument("--rounds", type=int, default=10)
    options_parser.add_argument("--no-compile", action="store_true", help="leave out the compiled way")
    options_parser.add_argument("--device", default="cuda", help="cpu only shows that it runs")
    options = options_parser.parse_args(arguments)
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        raise MissingPackageError(
            "no CUDA device can be used here, and these settings are for one",
            fix="run it on a machine with a GPU; --device cpu --quick shows that it runs",
        )
    if options.quick:
        options.model, options.image_size, options.batch = "test_resnet", 32, 2
        options.steps, options.rounds = 1, 1
    return compare(options, arguments)


def compare(options: Any, arguments: Sequence[str] | None) -> dict[str, Any]:
    """Measure all ways."""
    ways = {name: way for name, way in WAYS.items() if not (way.compile and options.no_compile)}
    found = alternate({name: steps_of(way, options) for name, way in ways.items()}, options.rounds)
    seen = options.batch * options.steps
    on_gpu = options.device.startswith("cuda")
    return keep(
        options,
        "train_speed",
        arguments,
        settings={
            **{key: getattr(options, key) for key in ("model", "image_size", "batch", "steps", "device")},
            "gpu": torch.cuda.get_device_name() if on_gpu else None,
            "tf32 in convolutions": torch.backends.cudnn.allow_tf32,
            "tf32 in matrix products": torch.backends.cuda.matmul.allow_tf32,
        },
        latencies={f"{options.steps} steps, {name}": one for name, one in found.items()},
        ratios={f"{EAGER} / {name}": ratio(found[EAGER], found[name]) for name in ways if name != EAGER},
        figures={f"images/s, {name}": round(1000 * seen / one.p50, 1) for name, one in found.items()},
    )


def steps_of(way: Way, options: Any) -> Callable[[], None]:
    """Return a call that does some training steps."""
    torch.manual_seed(0)
    device, side = torch.device(options.device), options.image_size
    layout = torch.channels_last if way.channels_last else torch.contiguous_format
    student = TimmStudent(TimmStudent.Config(model=options.model, image_size=side), DIM)
    rows = torch.randn(options.batch, DIM, device=device)
    task = DistillTask(student, [CosineEmbedding.Config()], LossContext(DIM, DIM), StoredRows(rows)).to(
        device
    )
    student.to(memory_format=layout)  # pyright: ignore[reportCallIssue]
    if way.compile:
        student.compile()
    optimizer = make_optimizer(task, TrainConfig(epochs=2))
    image = torch.randn(options.batch, 3, side, side, device=device).contiguous(memory_format=layout)
    number = torch.arange(options.batch, device=device)
    batch: Batch = {"image": image, "label": number, "index": number}
    task.train()

    def steps() -> None:
        for _ in range(options.steps):
            with torch.autocast(device.type, torch.bfloat16, enabled=way.bf16):
                loss = task.total(task(batch))
            loss.backward()
            torch.nn.utils.clip_grad_norm_(task.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        if device.type == "cuda":
            torch.cuda.synchronize()

    return steps


if __name__ == "__main__":
    try:
        main()
    except MissingPackageError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
