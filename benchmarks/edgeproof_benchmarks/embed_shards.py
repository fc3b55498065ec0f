"""Embedding images that lie in tar shards against the bare forward pass of the teacher.

Embedding reads each image at its offset, hashes and decodes it in worker processes and writes the cache; the
bare pass runs on a batch that is in memory already. The same images as single files are embedded as well.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from edgeproof_benchmarks.embed_throughput import UntrainedTeacher
from edgeproof_benchmarks.latency import alternate, ratio
from edgeproof_benchmarks.pictures import image_set
from edgeproof_benchmarks.record import keep, parser
from edgeproof_benchmarks.shard_reading import shard_set
from edgeproof_data.exchange.parts import Part
from edgeproof_data.exchange.shards import write_shards
from edgeproof_data.loader import eval_batches
from edgeproof_data.sets import ImageSet
from edgeproof_train.embed import embed_split
from edgeproof_train.teacher import TeacherPlaces

SHARDS, FILES, BARE = "embed from shards", "embed from files", "bare forward"


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Embed in all ways in turns, print and keep the figures."""
    options_parser = parser("embed_shards", __doc__)
    options_parser.add_argument("--images", type=Path, help="a folder of images; without it, made-up ones")
    options_parser.add_argument("--count", type=int, default=512, help="how many made-up images")
    options_parser.add_argument("--per-shard", type=int, default=128)
    options_parser.add_argument("--model", default="vit_base_patch32_224", help="any timm name")
    options_parser.add_argument("--image-size", type=int, default=224)
    options_parser.add_argument("--batch", type=int, default=64)
    options_parser.add_argument("--workers", type=int, default=2)
    options_parser.add_argument("--rounds", type=int, default=5)
    options_parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = options_parser.parse_args(arguments)
    if options.quick:
        options.count, options.per_shard, options.model, options.image_size = 6, 4, "resnet10t", 32
        options.batch, options.rounds, options.workers = 4, 1, 0
    with tempfile.TemporaryDirectory() as scratch:
        return compare(options, arguments, Path(scratch))


def compare(options: Any, arguments: Sequence[str] | None, scratch: Path) -> dict[str, Any]:
    """Measure inside a scratch folder."""
    files = image_set(options.images, scratch / "images", options.count)
    shards = shard_set(
        write_shards(scratch / "shards", [Part("train", files)], options.per_shard), scratch / "indices"
    )
    config = UntrainedTeacher.Config(model=options.model, image_size=options.image_size)
    teacher = UntrainedTeacher(config, TeacherPlaces(device=options.device))
    assert teacher.preprocess is not None
    batch = next(eval_batches(files, teacher.preprocess, batch_size=options.batch))["image"].to(
        options.device
    )
    sizes = [min(options.batch, len(files) - start) for start in range(0, len(files), options.batch)]
    rounds = iter(range(10**9))

    def embedded(images: ImageSet) -> None:
        folder = scratch / f"cache{next(rounds)}"
        embed_split(teacher, images, folder, batch_size=options.batch, workers=options.workers)

    def bare() -> None:
        for size in sizes:
            teacher.encode_image(batch[:size])
        if options.device.startswith("cuda"):
            torch.cuda.synchronize()

    calls = {SHARDS: lambda: embedded(shards), FILES: lambda: embedded(files), BARE: bare}
    found = alternate(calls, options.rounds)
    return keep(
        options,
        "embed_shards",
        arguments,
        settings={
            **{key: getattr(options, key) for key in ("model", "image_size", "batch", "workers", "device")},
            "images": len(files),
            "per_shard": options.per_shard,
            "torch_threads": torch.get_num_threads(),
        },
        latencies=found,
        ratios={
            f"rate of {SHARDS} / rate of {BARE}": ratio(found[BARE], found[SHARDS]),
            f"rate of {SHARDS} / rate of {FILES}": ratio(found[FILES], found[SHARDS]),
        },
        figures={f"images/s, {name}": round(1000 * len(files) / one.p50, 1) for name, one in found.items()},
    )


if __name__ == "__main__":
    main()
