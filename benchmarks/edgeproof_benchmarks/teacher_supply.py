"""Training on a cached teacher, on stored views and under the online teacher: images a second.

All three train the same student on the same augmented images with the same loss; what differs is where the
teacher's embeddings come from. The cache holds one embedding an image, stored views one for each of several
random views, and the online teacher looks at every view itself. Filling a cache is not part of it: that is
one pass of the teacher over the images, or one for each view. Images are decoded once into the loader's pixel
file before the first round, as in training; networks and embeddings are random, which costs as much.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgeproof_benchmarks.cache_reads import filled_cache
from edgeproof_benchmarks.embed_throughput import UntrainedTeacher
from edgeproof_benchmarks.latency import alternate, ratio
from edgeproof_benchmarks.pictures import image_set
from edgeproof_benchmarks.record import keep, parser
from edgeproof_benchmarks.train_step import trainer
from edgeproof_configs.schema import AugmentConfig, TrainConfig
from edgeproof_data.loader import TrainLoader
from edgeproof_data.sets import ImageSet
from edgeproof_train.loss import LossContext
from edgeproof_train.losses.cosine_embedding import CosineEmbedding
from edgeproof_train.students.timm import TimmStudent
from edgeproof_train.supervision import CachedSupervision, LiveSupervision, Supervision
from edgeproof_train.task import DistillTask
from edgeproof_train.teacher import TeacherPlaces

CACHED, VIEWS, ONLINE = "cached embeddings", "stored views", "online teacher"
SIZES = ("student", "teacher", "image_size", "teacher_image_size", "views", "batch", "workers", "device")


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Train all three ways in turns, print and keep the figures."""
    options_parser = parser("teacher_supply", __doc__)
    options_parser.add_argument("--images", type=Path, help="a folder of images; without it, made-up ones")
    options_parser.add_argument("--count", type=int, default=256, help="how many made-up images")
    options_parser.add_argument("--student", default="mobilenetv2_100", help="any timm name")
    options_parser.add_argument("--teacher", default="vit_base_patch32_224", help="any timm name")
    options_parser.add_argument("--image-size", type=int, default=96)
    options_parser.add_argument("--teacher-image-size", type=int, default=224)
    options_parser.add_argument("--views", type=int, default=4)
    options_parser.add_argument("--batch", type=int, default=32)
    options_parser.add_argument("--workers", type=int, default=2)
    options_parser.add_argument("--rounds", type=int, default=5)
    options_parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = options_parser.parse_args(arguments)
    if options.quick:
        options.count, options.student, options.teacher = 8, "test_resnet", "test_resnet"
        options.image_size, options.teacher_image_size, options.batch = 32, 64, 2
        options.views, options.rounds, options.workers = 2, 1, 1
    with tempfile.TemporaryDirectory() as scratch:
        return compare(options, arguments, Path(scratch))


def compare(options: Any, arguments: Sequence[str] | None, scratch: Path) -> dict[str, Any]:
    """Measure inside a scratch folder."""
    images = image_set(options.images, scratch / "images", options.count)
    epochs = {way: epoch_of(way, options, images, scratch) for way in (CACHED, VIEWS, ONLINE)}
    found = alternate(epochs, options.rounds)
    seen = max(1, len(images) // options.batch) * min(options.batch, len(images))
    return keep(
        options,
        "teacher_supply",
        arguments,
        settings={
            **{key: getattr(options, key) for key in SIZES},
            "images": len(images),
            "torch_threads": torch.get_num_threads(),
            "precision": "fp32",
        },
        latencies={f"epoch, {way}": one for way, one in found.items()},
        ratios={
            f"rate of {way} / rate of {ONLINE}": ratio(found[ONLINE], found[way]) for way in (CACHED, VIEWS)
        },
        figures={f"images/s, {way}": round(1000 * seen / one.p50, 1) for way, one in found.items()},
    )


def epoch_of(way: str, options: Any, images: ImageSet, scratch: Path) -> Callable[[], None]:
    """Return a call that trains one epoch, each time the next."""
    torch.manual_seed(0)
    config = UntrainedTeacher.Config(model=options.teacher, image_size=options.teacher_image_size)
    teacher = UntrainedTeacher(config, TeacherPlaces(device=options.device))
    dim = teacher.embedding_dim
    student = TimmStudent(TimmStudent.Config(model=options.student, image_size=options.image_size), dim)
    taught: Supervision
    if way == ONLINE:
        taught = LiveSupervision(teacher, student.preprocess)
    else:
        count = options.views if way == VIEWS else 1
        caches = [filled_cache(scratch / way / str(number), len(images), dim) for number in range(count)]
        taught = CachedSupervision(caches, [np.arange(len(images))] * count)
    task = DistillTask(student, [CosineEmbedding.Config()], LossContext(dim, dim), taught)
    task.to(options.device)
    student.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    loader = TrainLoader(
        images,
        student.preprocess,
        AugmentConfig(flip=0.5, shift_pixels=options.image_size // 10),
        batch_size=options.batch,
        seed=0,
        workers=options.workers,
        pixel_folder=scratch / "pixels",
        views=options.views if way == VIEWS else None,
    )
    train = trainer(task, TrainConfig(epochs=2, batch_size=options.batch), options.device)
    epochs = iter(range(10**9))
    return lambda: train(loader.epoch(next(epochs)))


if __name__ == "__main__":
    main()
