"""From parts to a finished cache."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeproof_configs.files import write_bytes
from edgeproof_data.cache.key import CacheKey
from edgeproof_data.cache.layout import (
    INDEX_DTYPE,
    MANIFEST,
    ROWS_PER_SHARD,
    TABLES,
    Manifest,
    Plan,
    format_of_part,
    map_array,
    path_hashes,
    write_array,
)
from edgeproof_data.cache.row_format import FILE_FIELDS


def merge_parts(folder: Path, key: CacheKey, plan: Plan, paths: Sequence[str]) -> None:
    """Join all parts into shards and tables, then write the manifest.

    Raises:
        DataError: a part is cut.
        EdgeproofError: the disk is full.
    """
    rows = format_of_part(folder / plan.part_name(0), key)
    parts = [
        map_array(folder / plan.part_name(part), rows.record, (len(plan.places(part)),))
        for part in range(plan.parts)
    ]
    for shard in range(plan.shards):
        start, count = shard * ROWS_PER_SHARD, plan.shard_rows(shard)
        blocks = _values([part[rows.column] for part in parts], plan, start, start + count)
        write_array(folder / plan.shard_name(shard), rows.dtype, (count, *rows.shape), blocks)
    index = np.zeros(plan.rows, INDEX_DTYPE)
    for name, *_ in FILE_FIELDS:
        index[name] = np.concatenate([part[name] for part in parts])
    index["hash"], salt = _distinct_hashes(paths)
    tables = {
        "norms": np.concatenate([part["norm"] for part in parts]),
        "index": index,
        "order": np.argsort(index["hash"]),
    }
    for name, table in tables.items():
        write_array(folder / plan.table_name(name), TABLES[name], table.shape, [table])
    write_bytes(folder / plan.paths_name, "".join(f"{path}\n" for path in paths).encode())
    Manifest(key, plan, rows.width, salt).write(folder)


def remove_leftovers(folder: Path, plan: Plan) -> None:
    """Delete the parts, and what earlier image lists, other keys and killed processes left in the folder."""
    keep = {MANIFEST, *plan.file_names()}
    prefixes = tuple(f"{kind}-" for kind in ("part", "rows", "paths", *TABLES))
    for file in folder.iterdir():
        ours = file.name.lstrip(".").startswith((*prefixes, f"{MANIFEST}."))
        if ours and file.name not in keep:
            file.unlink()


def _values(parts: Sequence[NDArray[Any]], plan: Plan, start: int, end: int) -> Iterator[NDArray[Any]]:
    """Yield the values of rows start to end, block by block."""
    row = start
    while row < end:
        part, place = divmod(row, plan.rows_per_part)
        taken = min(len(parts[part]) - place, end - row)
        yield parts[part][place : place + taken]
        row += taken


def _distinct_hashes(paths: Sequence[str]) -> tuple[NDArray[np.uint64], int]:
    """Return hashes that are all different, and their salt."""
    salt = 0
    while len(np.unique(hashes := path_hashes(paths, salt))) < len(paths):
        salt += 1
    return hashes, salt
