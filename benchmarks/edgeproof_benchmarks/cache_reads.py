"""Random reads from the embedding cache against one .npy an image, and opening a cache of a million rows.

Both hold the same embeddings: the cache as float16 unit vectors with norms, paths and content hashes; the
files as float32, which is what one gets who saves each image's embedding with `numpy.save`. Both are warm in
the page cache.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgeproof_benchmarks.latency import interleave, measure, ratio
from edgeproof_benchmarks.record import keep, parser, timing_of
from edgeproof_configs.progress import progress
from edgeproof_data.cache import CacheKey, CacheWriter, EmbeddingCache
from edgeproof_data.sets import unlabelled

CHUNK_ROWS = 16384
KEY = CacheKey(teacher={"kind": "random numbers"}, preprocess=None)
NO_CONTENT = "0" * 64


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Make both stores in a temporary folder, read them in turns, print and keep the figures."""
    options_parser = parser("cache_reads", __doc__, seconds=10.0)
    options_parser.add_argument("--rows", type=int, default=20_000, help="images in the comparison")
    options_parser.add_argument("--large-rows", type=int, default=1_000_000, help="rows of the cache to open")
    options_parser.add_argument("--dim", type=int, default=512)
    options_parser.add_argument("--batch", type=int, default=256, help="rows read at once")
    options_parser.add_argument("--folder", type=Path, help="where the temporary folder is made")
    options = options_parser.parse_args(arguments)
    if options.quick:
        options.rows, options.large_rows, options.dim, options.batch = 200, 400, 16, 8
    with tempfile.TemporaryDirectory(dir=options.folder) as scratch:
        return compare(options, arguments, Path(scratch))


def compare(options: Any, arguments: Sequence[str] | None, scratch: Path) -> dict[str, Any]:
    """Measure inside a scratch folder."""
    timing = timing_of(options)
    cache = filled_cache(scratch / "cache", options.rows, options.dim)
    files = npy_files(scratch / "files", options.rows, options.dim)
    random = np.random.default_rng(1)
    turns = [random.integers(0, options.rows, options.batch) for _ in range(64)]
    step = iter(range(10**12))

    def from_cache() -> np.ndarray:
        return cache.rows(turns[next(step) % len(turns)])

    def from_files() -> np.ndarray:
        return np.stack([np.load(files[row]) for row in turns[next(step) % len(turns)]])

    reads = interleave({"one .npy an image": from_files, "cache": from_cache}, **timing.keywords())
    large = filled_cache(scratch / "large", options.large_rows, options.dim).folder
    name = f"open a cache of {options.large_rows:,} rows"
    opening = measure(
        lambda: EmbeddingCache.open(large, KEY),
        seconds=timing.seconds / 5,
        warmup_seconds=timing.warmup_seconds,
    )
    cache_bytes, file_bytes = bytes_in(scratch / "cache"), bytes_in(scratch / "files")
    return keep(
        options,
        "cache_reads",
        arguments,
        settings={key: getattr(options, key) for key in ("rows", "large_rows", "dim", "batch")},
        latencies={**reads, name: opening},
        ratios={"files / cache": ratio(reads["one .npy an image"], reads["cache"])},
        figures={
            "cache bytes": cache_bytes,
            "file bytes": file_bytes,
            "cache bytes / file bytes": round(cache_bytes / file_bytes, 4),
        },
    )


def embeddings(random: np.random.Generator, count: int, dim: int) -> np.ndarray:
    """Return random embeddings with lengths around 10, float32 (count, dim)."""
    return random.normal(0, 10 / np.sqrt(dim), (count, dim)).astype(np.float32)


def filled_cache(folder: Path, rows: int, dim: int) -> EmbeddingCache:
    """Write a cache of random embeddings for images that need not exist."""
    names = [f"images/{row // 1000:05d}/{row:08d}.jpg" for row in range(rows)]
    writer = CacheWriter(folder, KEY, unlabelled(folder / "nowhere", names), dim)
    random = np.random.default_rng(0)
    with progress("cache", rows, "rows") as shown:
        for start in range(0, rows, CHUNK_ROWS):
            places = np.arange(start, min(start + CHUNK_ROWS, rows))
            writer.add(places, embeddings(random, len(places), dim), [NO_CONTENT] * len(places))
            shown.advance(len(places))
    return writer.finish()


def npy_files(folder: Path, rows: int, dim: int) -> list[Path]:
    """Write random embeddings, one float32 file an image, a thousand a folder."""
    random = np.random.default_rng(0)
    values = embeddings(random, rows, dim)
    files = [folder / f"{row // 1000:05d}" / f"{row:08d}.npy" for row in range(rows)]
    with progress("files", rows, "files") as shown:
        for file, value in zip(files, values, strict=True):
            file.parent.mkdir(parents=True, exist_ok=True)
            np.save(file, value)
            shown.advance()
    return files


def bytes_in(folder: Path) -> int:
    """Return the bytes of all files in a folder, as they are, not as blocks of a disk."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


if __name__ == "__main__":
    main()
