"""Filling the embedding cache from image files, against the bare forward passes of the teacher.

The teacher is a timm network with random weights: as fast as a trained one, and nothing to download. A round
of `embed_split` reads, decodes, resizes and hashes every file, runs the teacher and writes a new cache; a
bare round runs the teacher on as many batches that are in memory already.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor

from edgeproof_benchmarks.latency import alternate, ratio
from edgeproof_benchmarks.pictures import image_set
from edgeproof_benchmarks.record import keep, parser
from edgeproof_configs.schema import TeacherConfig
from edgeproof_data.loader import eval_batches
from edgeproof_deploy.runtime.preprocess import Preprocess
from edgeproof_train.embed import embed_split
from edgeproof_train.teacher import Teacher, TeacherPlaces, frozen


class UntrainedTeacher(Teacher):
    """A timm network with random weights; not registered, since no recipe should name it."""

    class Config(TeacherConfig):
        """`model`: any timm name. `image_size`: side of its input in pixels."""

        kind: str = "untrained"
        model: str
        image_size: int

    def __init__(self, config: Config, places: TeacherPlaces):
        super().__init__(config, places)
        torch.manual_seed(0)
        model: Any = timm.create_model(config.model, pretrained=False, num_classes=0)
        self.model = frozen(model, self.device)
        self.embedding_dim = int(model.num_features)
        self.preprocess = Preprocess(config.image_size, config.image_size)

    def _identity(self) -> dict[str, Any]:
        return {"model": self.config.model, "weights": "random, seed 0"}

    def _encode_image(self, image_BCHW: Tensor) -> Tensor:
        return self.model(image_BCHW)


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Embed in both ways in turns, print and keep the figures."""
    options_parser = parser("embed_throughput", __doc__)
    options_parser.add_argument("--images", type=Path, help="a folder of images; without it, made-up ones")
    options_parser.add_argument("--count", type=int, default=256, help="how many made-up images")
    options_parser.add_argument("--model", default="vit_base_patch32_224", help="any timm name")
    options_parser.add_argument("--image-size", type=int, default=224)
    options_parser.add_argument("--batch", type=int, default=64)
    options_parser.add_argument("--workers", type=int, default=2)
    options_parser.add_argument("--rounds", type=int, default=5)
    options_parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = options_parser.parse_args(arguments)
    if options.quick:
        options.count, options.model, options.image_size, options.batch = 6, "resnet10t", 32, 4
        options.rounds, options.workers = 1, 0
    with tempfile.TemporaryDirectory() as scratch:
        return compare(options, arguments, Path(scratch))


def compare(options: Any, arguments: Sequence[str] | None, scratch: Path) -> dict[str, Any]:
    """Measure inside a scratch folder."""
    images = image_set(options.images, scratch / "images", options.count)
    config = UntrainedTeacher.Config(model=options.model, image_size=options.image_size)
    teacher = UntrainedTeacher(config, TeacherPlaces(device=options.device))
    assert teacher.preprocess is not None
    batch = next(eval_batches(images, teacher.preprocess, batch_size=options.batch))["image"].to(
        options.device
    )
    sizes = [min(options.batch, len(images) - start) for start in range(0, len(images), options.batch)]
    rounds = iter(range(10**9))

    def embedded() -> None:
        folder = scratch / f"cache{next(rounds)}"
        embed_split(teacher, images, folder, batch_size=options.batch, workers=options.workers)

    def bare() -> None:
        for size in sizes:
            teacher.encode_image(batch[:size])
        if options.device.startswith("cuda"):
            torch.cuda.synchronize()

    found = alternate({"embed": embedded, "bare forward": bare}, options.rounds)
    return keep(
        options,
        "embed_throughput",
        arguments,
        settings={
            **{key: getattr(options, key) for key in ("model", "image_size", "batch", "workers", "device")},
            "images": len(images),
            "torch_threads": torch.get_num_threads(),
        },
        latencies=found,
        ratios={"rate of embed / rate of bare forward": ratio(found["bare forward"], found["embed"])},
        figures={f"images/s, {name}": round(1000 * len(images) / one.p50, 1) for name, one in found.items()},
    )


if __name__ == "__main__":
    main()
