"""Writes an embedding cache, for tests that kill it: `write_cache.py IMAGES CACHE SECONDS_A_BATCH`."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import numpy as np

from edgeproof_data.cache import CacheKey, CacheWriter
from edgeproof_data.folders import list_images
from edgeproof_data.sets import unlabelled

DIM = 24
BATCH = 7


def embedding(path: str) -> np.ndarray:
    """Return numbers that depend on the path alone."""
    return (
        np.random.default_rng(np.frombuffer(path.encode(), np.uint8)).standard_normal(DIM).astype(np.float32)
        * 9
    )


def main() -> None:
    root, folder, pause_seconds = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])
    images = unlabelled(root, list_images(root))
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    writer = CacheWriter(folder, CacheKey({"kind": "test"}, None), images, rank=rank, world=world)
    pending = writer.pending()
    # As one piece: two processes write to the same pipe.
    print(f"started {len(pending)}\n", end="", flush=True)
    for start in range(0, len(pending), BATCH):
        batch = pending[start : start + BATCH]
        writer.add(batch, np.stack([embedding(images.paths[index]) for index in batch]))
        time.sleep(pause_seconds)
    writer.finish()
    print("finished", flush=True)


if __name__ == "__main__":
    main()
