"""A training epoch on images against the same steps on synthetic tensors: what the data cost.

Both run the task (student, cached teacher embeddings, cosine loss), the backward pass, clipping and the
optimizer; the synthetic epoch uses one batch again and again. Images are decoded once into the loader's pixel
file before the first round, as in training; every round transforms and normalises them anew.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgeproof_benchmarks.cache_reads import filled_cache
from edgeproof_benchmarks.latency import alternate, ratio
from edgeproof_benchmarks.pictures import image_set
from edgeproof_benchmarks.record import keep, parser
from edgeproof_configs.schema import AugmentConfig, TrainConfig
from edgeproof_data.loader import Batch, TrainLoader
from edgeproof_train.loss import LossContext
from edgeproof_train.losses.cosine_embedding import CosineEmbedding
from edgeproof_train.optim import make_optimizer
from edgeproof_train.students.timm import TimmStudent
from edgeproof_train.supervision import CachedSupervision
from edgeproof_train.task import DistillTask

DIM = 512


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Train both epochs in turns, print and keep the figures."""
    options_parser = parser("train_step", __doc__)
    options_parser.add_argument("--images", type=Path, help="a folder of images; without it, made-up ones")
    options_parser.add_argument("--count", type=int, default=1024, help="how many made-up images")
    options_parser.add_argument("--model", default="mobilenetv2_100", help="any timm name")
    options_parser.add_argument("--image-size", type=int, default=160)
    options_parser.add_argument("--batch", type=int, default=64)
    options_parser.add_argument("--workers", type=int, default=2)
    options_parser.add_argument("--rounds", type=int, default=5)
    options_parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = options_parser.parse_args(arguments)
    if options.quick:
        options.count, options.model, options.image_size, options.batch = 8, "resnet10t", 32, 2
        options.rounds, options.workers = 1, 1
    with tempfile.TemporaryDirectory() as scratch:
        return compare(options, arguments, Path(scratch))


def compare(options: Any, arguments: Sequence[str] | None, scratch: Path) -> dict[str, Any]:
    """Measure inside a scratch folder."""
    images = image_set(options.images, scratch / "images", options.count)
    task = untrained_task(options, len(images), scratch)
    loader = TrainLoader(
        images,
        task.student.preprocess,
        AugmentConfig(flip=0.5, shift_pixels=options.image_size // 10),
        batch_size=options.batch,
        seed=0,
        workers=options.workers,
        pixel_folder=scratch / "pixels",
    )
    train = trainer(task, TrainConfig(epochs=2, batch_size=options.batch), options.device)
    steps = loader.steps_per_epoch
    synthetic = next(loader.epoch(0))
    epochs = iter(range(10**9))
    found = alternate(
        {
            "epoch on images": lambda: train(loader.epoch(next(epochs))),
            "epoch on synthetic tensors": lambda: train(synthetic for _ in range(steps)),
        },
        options.rounds,
    )
    share = ratio(found["epoch on synthetic tensors"], found["epoch on images"])
    seen = steps * options.batch
    return keep(
        options,
        "train_step",
        arguments,
        settings={
            **{key: getattr(options, key) for key in ("model", "image_size", "batch", "workers", "device")},
            "images": len(images),
            "steps": steps,
            "torch_threads": torch.get_num_threads(),
            "precision": "fp32",
        },
        latencies=found,
        ratios={"rate on images / rate on synthetic tensors": share},
        figures={f"images/s, {name}": round(1000 * seen / one.p50, 1) for name, one in found.items()},
    )


def untrained_task(options: Any, count: int, scratch: Path) -> DistillTask:
    """Return a random student with a cosine loss to random teacher embeddings of `count` images."""
    torch.manual_seed(0)
    config = TimmStudent.Config(model=options.model, image_size=options.image_size)
    student = TimmStudent(config, DIM, scratch)
    supervision = CachedSupervision(filled_cache(scratch / "cache", count, DIM), np.arange(count))
    context = LossContext(student_dim=DIM, teacher_dim=DIM)
    task = DistillTask(student, [CosineEmbedding.Config()], context, supervision).to(options.device)
    student.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    return task


def trainer(task: DistillTask, config: TrainConfig, device: str) -> Callable[[Iterable[Batch]], None]:
    """Return a function that trains on batches: forward, backward, clip, step."""
    optimizer = make_optimizer(task, config)
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    task.train()

    def train(batches: Iterable[Batch]) -> None:
        for step, batch in enumerate(batches):
            moved: Batch = {
                **batch,
                "image": batch["image"].to(device, memory_format=torch.channels_last, non_blocking=True),
                "label": batch["label"].to(device),
            }
            task.total(task(moved, step)).backward()
            torch.nn.utils.clip_grad_norm_(parameters, config.clip_grad_norm or 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        if device.startswith("cuda"):
            torch.cuda.synchronize()

    return train


if __name__ == "__main__":
    main()
