"""Which of a split's images each process of a `torchrun` looks at, and their rows brought together again."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edgeproof.processes import Processes
from edgeproof_data.sets import ImageSet


def share_of(processes: Processes, count: int, batch_size: int) -> np.ndarray:
    """Return the positions, int64, of the images among `count` that are this process's work; maybe none.

    They are whole batches of those that one process would make, every W-th for W processes: each image
    is computed beside the same others as there, and gets the same values to the bit.
    """
    positions = np.arange(count)
    return positions[positions // batch_size % processes.world == processes.rank]


def shared_rows(
    processes: Processes, images: ImageSet, compute: Callable[[ImageSet], np.ndarray], batch_size: int
) -> np.ndarray:
    """Return a row for each of N images on the first process, (N, D), in order; (0, 0) on the others.

    Every image is computed once, by one process. All processes must call this.

    Args:
        processes: that share the work.
        images: N of them, the same for all processes.
        compute: from some of them to their rows (n, D), `batch_size` at a time.
        batch_size: images at a time.
    """
    if processes.world == 1:
        return compute(images)
    own = share_of(processes, len(images), batch_size)
    parts = processes.gather((own, compute(images.subset(own)) if len(own) else None))
    filled = [(positions, rows) for positions, rows in parts if rows is not None]
    if not filled:
        return np.empty((0, 0), np.float32)
    order = np.argsort(np.concatenate([positions for positions, _ in filled]))
    return np.concatenate([rows for _, rows in filled])[order]
