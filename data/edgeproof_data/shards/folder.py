"""The shards in a folder as sets of images, by the part that their names begin with."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from edgeproof_configs.errors import DataError
from edgeproof_configs.progress import progress
from edgeproof_data.prefetch import in_order
from edgeproof_data.sets import NO_LABEL, SPLITS
from edgeproof_data.shards.index import index_of
from edgeproof_data.shards.members import Shards, ShardSet
from edgeproof_data.shards.samples import Wanted, read_samples


def shard_parts(folder: Path, cache: Path, image: str | None = None) -> tuple[dict[str, ShardSet], list[str]]:
    """Return the images in the `.tar` files of a folder, by part, and what was left out of them.

    `train-000.tar` is of the part `train`; shards that name no part are of the part "".

    Args:
        folder: of the shards.
        cache: for their indices.
        image: suffix of the image, where samples have several.

    Raises:
        DataError: a shard is compressed, cut or damaged, or none of them holds an image.
    """
    files = sorted(folder.glob("*.tar"))
    found = []
    with progress("index", len(files), "shards") as shown:
        for index in in_order(lambda file: index_of(file, cache), files, min(os.cpu_count() or 1, 8)):
            found.append(index)
            shown.advance()
    by_part: dict[str, list[int]] = {}
    for place, file in enumerate(files):
        part = file.name.split("-")[0].split(".")[0]
        by_part.setdefault(part if part in SPLITS else "", []).append(place)
    parts: dict[str, ShardSet] = {}
    remarks: list[str] = []
    for part, places in by_part.items():
        indices = [found[place] for place in places]
        shards, names = Shards(indices), [files[place].name for place in places]
        samples = read_samples(names, indices, shards, 0, Wanted(image, None, None))
        labels = np.full(len(samples.paths), NO_LABEL, np.int64)
        parts[part] = ShardSet(folder, tuple(samples.paths), labels, (), shards, samples.members)
        remarks += samples.remarks
    if not any(len(images) for images in parts.values()):
        raise DataError("these shards hold no image", where=folder)
    return parts, remarks
