"""A search in a million embeddings, exact and by an index, and finding twins among a hundred thousand.

The embeddings are made up: each is a mixture of a few of 2,000 centres and something of its own. They lie in
an embedding cache, as those of `edgeproof data index` do. Queries are further such rows. Recall is measured
against exact search in blocks.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgeproof_benchmarks.latency import measure
from edgeproof_benchmarks.record import keep, parser, timing_of
from edgeproof_configs.progress import progress
from edgeproof_data.alike import Rows, alike_groups
from edgeproof_data.cache import CacheKey, CacheWriter, EmbeddingCache
from edgeproof_data.search.approximate import (
    ApproximateIndex,
    Kind,
    build_index,
    exact_nearest,
    recall_of,
)
from edgeproof_data.search.exact import best_matches
from edgeproof_data.sets import unlabelled

KEY = CacheKey(teacher={"kind": "made up"}, preprocess=None)
NO_CONTENT = "0" * 64
CHUNK_ROWS = 16_384
CENTRES, MIXED = 2_000, 3
"""A row lies among so many centres: the nearest rows are spread over several cells of an index."""
SPREAD = 0.5
"""Length of what is added to the mixture of unit centres."""
TWINS_IN = 10
"""One in so many rows of the set without twins is there a second time, slightly changed."""
NEAREST = 10


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Fill a cache in a temporary folder, build, search, look for twins; print and keep the figures."""
    options_parser = parser("search_index", __doc__, seconds=10.0)
    options_parser.add_argument("--rows", type=int, default=1_000_000, help="embeddings to search")
    options_parser.add_argument(
        "--twin-rows", type=int, default=100_000, help="embeddings to find twins among"
    )
    options_parser.add_argument("--dim", type=int, default=512)
    options_parser.add_argument("--queries", type=int, default=200, help="queries for recall")
    options_parser.add_argument("--kind", choices=("ivf", "hnsw"), default="ivf")
    options_parser.add_argument("--folder", type=Path, help="where the temporary folder is made")
    options = options_parser.parse_args(arguments)
    if options.quick:
        options.rows, options.twin_rows, options.dim, options.queries = 2_000, 600, 32, 20
    with tempfile.TemporaryDirectory(dir=options.folder) as scratch:
        return compare(options, arguments, Path(scratch))


def compare(options: Any, arguments: Sequence[str] | None, scratch: Path) -> dict[str, Any]:
    """Measure inside a scratch folder."""
    timing = timing_of(options)
    cache = filled(scratch / "cache", options.rows, options.dim)
    queries = made_up(np.random.default_rng(7), options.queries, options.dim)
    kind: Kind = options.kind
    build_seconds, figures = timed(lambda: build_index(cache, kind, scratch / "index"))
    index = ApproximateIndex(scratch / "index", cache, figures)
    recall = recall_of(index.nearest(queries, NEAREST), exact_nearest(cache, queries, NEAREST))
    turn = iter(range(10**12))

    def one_query() -> np.ndarray:
        at = next(turn) % len(queries)
        return index.nearest(queries[at : at + 1], NEAREST)

    search = measure(one_query, seconds=timing.seconds, warmup_seconds=timing.warmup_seconds)
    words_seconds, _ = timed(lambda: best_matches(cache, queries[:100], 100))
    twins, planted = with_twins(options.twin_rows, options.dim)
    twin_seconds, groups = timed(lambda: alike_groups(Rows(twins)))
    return keep(
        options,
        "search_index",
        arguments,
        settings={key: getattr(options, key) for key in ("rows", "twin_rows", "dim", "queries", "kind")},
        latencies={f"one query, {NEAREST} nearest": search},
        ratios={},
        figures={
            "build seconds": round(build_seconds, 1),
            "recall@10": round(recall, 4),
            "recall@10 told by the index, of rows as queries": figures.recall,
            "cells or candidates looked at": figures.effort,
            "index bytes": figures.size_bytes,
            "cache bytes": sum(file.stat().st_size for file in cache.folder.iterdir()),
            f"exact search for {len(queries[:100])} prompts, seconds": round(words_seconds, 1),
            "twins: seconds": round(twin_seconds, 1),
            "twins: groups found": len(groups),
            "twins: groups planted": planted,
        },
    )


def made_up(random: np.random.Generator, count: int, dim: int) -> np.ndarray:
    """Return unit rows, each a mixture of a few of fixed centres and something of its own, float32."""
    centres = (np.random.default_rng(0).normal(size=(CENTRES, dim)) / np.sqrt(dim)).astype(np.float32)
    shares = random.dirichlet(np.ones(MIXED), count).astype(np.float32)
    rows = np.zeros((count, dim), np.float32)
    for share in shares.T:
        rows += share[:, None] * centres[random.integers(0, CENTRES, count)]
    rows += random.normal(0, SPREAD / np.sqrt(dim), (count, dim)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def filled(folder: Path, rows: int, dim: int) -> EmbeddingCache:
    """Write a cache of made-up embeddings for images that need not exist."""
    names = [f"images/{row:08d}.jpg" for row in range(rows)]
    writer = CacheWriter(folder, KEY, unlabelled(folder / "nowhere", names), dim)
    random = np.random.default_rng(1)
    with progress("cache", rows, "rows") as shown:
        for start in range(0, rows, CHUNK_ROWS):
            places = np.arange(start, min(start + CHUNK_ROWS, rows))
            writer.add(places, made_up(random, len(places), dim), [NO_CONTENT] * len(places))
            shown.advance(len(places))
    return writer.finish()


def with_twins(rows: int, dim: int) -> tuple[np.ndarray, int]:
    """Return unit rows, float16, some of them there twice with a cosine of about 0.98, and how many pairs."""
    random = np.random.default_rng(3)
    planted = rows // (TWINS_IN + 1)
    plain = made_up(random, rows - planted, dim)
    twins = plain[:planted] + random.normal(0, 0.2 / np.sqrt(dim), (planted, dim)).astype(np.float32)
    twins /= np.linalg.norm(twins, axis=1, keepdims=True)
    both = np.concatenate([plain, twins])
    return both[random.permutation(rows)].astype(np.float16), planted


def timed(call: Any) -> tuple[float, Any]:
    """Return seconds and result of a call."""
    started = time.perf_counter()
    result = call()
    return time.perf_counter() - started, result


if __name__ == "__main__":
    main()
