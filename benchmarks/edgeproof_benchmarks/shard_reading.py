"""Reading every image of tar shards at its offset against plain iteration over the tar files.

`tarfile` streams the shards and gives out every image; where the package `webdataset` is there its iterator
does so, too, without decoding. Ours reads them in the order of the shards, and in the order of a training
epoch. The bytes that come are counted and must be the same. Indices are made before; how long that takes is
told as well.
"""

from __future__ import annotations

import tarfile
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from edgeproof_benchmarks.latency import alternate, ratio
from edgeproof_benchmarks.pictures import image_set
from edgeproof_benchmarks.record import keep, parser
from edgeproof_data.draws import permutation
from edgeproof_data.exchange.parts import Part
from edgeproof_data.exchange.shards import write_shards
from edgeproof_data.shards.index import index_of
from edgeproof_data.shards.members import Shards, ShardSet
from edgeproof_data.shards.samples import Wanted, read_samples

STREAM, IN_ORDER, SHUFFLED, LIBRARY = (
    "tarfile stream",
    "by offset, in order",
    "by offset, shuffled",
    "webdataset",
)


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Read in all ways in turns, print and keep the figures."""
    options_parser = parser("shard_reading", __doc__)
    options_parser.add_argument("--images", type=Path, help="a folder of images; without it, made-up ones")
    options_parser.add_argument("--count", type=int, default=4000, help="how many made-up images")
    options_parser.add_argument("--per-shard", type=int, default=1000)
    options_parser.add_argument("--rounds", type=int, default=9)
    options = options_parser.parse_args(arguments)
    if options.quick:
        options.count, options.per_shard, options.rounds = 12, 5, 2
    with tempfile.TemporaryDirectory() as scratch:
        return compare(options, arguments, Path(scratch))


def compare(options: Any, arguments: Sequence[str] | None, scratch: Path) -> dict[str, Any]:
    """Measure inside a scratch folder."""
    files = made_shards(options.images, options.count, options.per_shard, scratch)
    began = time.perf_counter()
    images = shard_set(files, scratch / "indices")
    index_seconds = time.perf_counter() - began
    order = permutation(0, 0, len(images)).tolist()
    calls: dict[str, Callable[[], int]] = {
        STREAM: lambda: streamed(files),
        IN_ORDER: lambda: read(images, range(len(images))),
        SHUFFLED: lambda: read(images, order),
    }
    if find_spec("webdataset"):
        calls[LIBRARY] = lambda: by_library(files)
    counts = {name: call() for name, call in calls.items()}
    if len(set(counts.values())) > 1:
        raise AssertionError(f"not the same bytes: {counts}")
    found = alternate(calls, options.rounds)
    ratios = {
        f"rate {name} / rate of {STREAM}": ratio(found[STREAM], found[name])
        for name in calls
        if name != STREAM
    }
    rates = {f"images/s, {name}": round(1000 * len(images) / one.p50) for name, one in found.items()}
    return keep(
        options,
        "shard_reading",
        arguments,
        settings={"images": len(images), "shards": len(files), "image_bytes": counts[STREAM]},
        latencies=found,
        ratios=ratios,
        figures={**rates, "images/s, indexed with sha256": round(len(images) / index_seconds)},
    )


def made_shards(folder: Path | None, count: int, per_shard: int, scratch: Path) -> list[Path]:
    """Write the images of a folder, or made-up ones, as shards."""
    images = image_set(folder, scratch / "images", count)
    return write_shards(scratch / "shards", [Part("train", images)], per_shard)


def shard_set(files: Sequence[Path], indices: Path) -> ShardSet:
    """Return the images of some shards."""
    found = [index_of(file, indices) for file in files]
    shards = Shards(found)
    samples = read_samples([file.name for file in files], found, shards, 0, Wanted(None, None, None))
    labels = np.full(len(samples.paths), -1, np.int64)
    return ShardSet(files[0].parent, tuple(samples.paths), labels, (), shards, samples.members)


def read(images: ShardSet, order: Sequence[int]) -> int:
    """Read the images at some positions and return how many bytes came."""
    return sum(len(images.read(index)) for index in order)


def streamed(files: Sequence[Path]) -> int:
    """Iterate over tar files and return how many bytes of images came."""
    total = 0
    for file in files:
        with tarfile.open(file, "r|") as archive:
            for member in archive:
                handle = archive.extractfile(member)
                data = b"" if handle is None else handle.read()
                total += 0 if member.name.endswith(".json") else len(data)
    return total


def by_library(files: Sequence[Path]) -> int:
    """Iterate with the package `webdataset` and return how many bytes of images came."""
    from webdataset.tariterators import group_by_keys, tar_file_expander

    total = 0
    for file in files:
        # Opened here, because the package leaves it to chance when its own handles are closed.
        with file.open("rb") as handle:
            for sample in group_by_keys(tar_file_expander([{"url": str(file), "stream": handle}])):
                parts = ((suffix, data) for suffix, data in sample.items() if not suffix.startswith("__"))
                total += sum(len(data) for suffix, data in parts if suffix != "json")
    return total


if __name__ == "__main__":
    main()
