"""How a cache lies on disk.

A finished cache is a folder with

- `manifest.json`: the key, and names and sizes of the other files. It is written last: nothing counts before.
- `rows-<plan>-<shard>.npy`: (n, D) float16 unit vectors, in the order of the images; or (n,) records of the k
  largest class probabilities.
- `norms-<plan>.npy`: (N,) float32, the length that each row had, or what its probabilities sum to.
- `index-<plan>.npy`: size, mtime and sha256 of the image file behind each row, with a hash of its path.
- `order-<plan>.npy`: the rows in the order of their hashes, for looking paths up without reading them all.
- `paths-<plan>.txt`: the paths, one a line.

While it is written there are only `part-<plan>-<number>.npy`, each with complete records of some images.

`plan` is a digest of the key and of the list of images with their sizes and mtimes, so that files made with
another teacher, from other images or from changed ones are never taken for these.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from edgeproof_configs.errors import DataError
from edgeproof_configs.files import atomic_open, digest_of, read_json, write_json
from edgeproof_data.cache.key import CacheKey, StaleCacheError
from edgeproof_data.cache.row_format import FILE_FIELDS, RowFormat, UnitRows, format_of
from edgeproof_data.paths import counted, some_of

FORMAT = 1
MANIFEST = "manifest.json"
ROWS_PER_SHARD = 1 << 20
PARTS = 256
"""How many parts a cache of ordinary size is written in; a kill costs each process at most one of them."""
FEWEST_ROWS, MOST_ROWS = 32, 8192
"""Bounds on the rows of a part."""
INDEX_DTYPE = np.dtype([("hash", "<u8"), *FILE_FIELDS])
TABLES = {"norms": np.dtype("<f4"), "index": INDEX_DTYPE, "order": np.dtype("<i8")}

Stats = NDArray[np.int64]
"""(n, 2): size in bytes and mtime in ns of each image file."""


@dataclass(frozen=True)
class Plan:
    """How a list of images is laid out; `name` is in the name of every file."""

    name: str
    rows: int

    @classmethod
    def of(cls, key: CacheKey, paths: Sequence[str], stats: Stats) -> Plan:
        """Return the plan for a key and a list of images."""
        images = hashlib.sha256("\n".join(paths).encode())
        images.update(np.ascontiguousarray(stats).tobytes())
        return cls(digest_of([FORMAT, key.digest(), images.hexdigest()])[:16], len(paths))

    @property
    def rows_per_part(self) -> int:
        """The rows of every part but the last."""
        return min(max(math.ceil(self.rows / PARTS), FEWEST_ROWS), MOST_ROWS)

    @property
    def parts(self) -> int:
        """The number of parts."""
        return math.ceil(self.rows / self.rows_per_part)

    @property
    def shards(self) -> int:
        """The number of shards."""
        return math.ceil(self.rows / ROWS_PER_SHARD)

    def places(self, part: int) -> NDArray[np.int64]:
        """Return the positions of the images of a part."""
        return np.arange(part * self.rows_per_part, min((part + 1) * self.rows_per_part, self.rows))

    def shard_rows(self, shard: int) -> int:
        """Return the number of rows of a shard."""
        return min(ROWS_PER_SHARD, self.rows - shard * ROWS_PER_SHARD)

    def part_name(self, part: int) -> str:
        """Return the file name of a part."""
        return f"part-{self.name}-{part:05d}.npy"

    def shard_name(self, shard: int) -> str:
        """Return the file name of a shard."""
        return f"rows-{self.name}-{shard:04d}.npy"

    def table_name(self, table: str) -> str:
        """Return the file name of `norms`, `index` or `order`."""
        return f"{table}-{self.name}.npy"

    @property
    def paths_name(self) -> str:
        """The file name of the paths."""
        return f"paths-{self.name}.txt"

    def file_names(self) -> list[str]:
        """Return the names of all files of a finished cache but the manifest."""
        tables = [self.table_name(table) for table in TABLES]
        return [*(self.shard_name(shard) for shard in range(self.shards)), *tables, self.paths_name]


@dataclass(frozen=True)
class Manifest:
    """The contents of `manifest.json`. `salt` is that of the path hashes."""

    key: CacheKey
    plan: Plan
    dim: int
    salt: int

    def write(self, folder: Path) -> None:
        """Declare the cache in this folder finished."""
        described = {
            "format": FORMAT,
            "key": self.key.to_dict(),
            "plan": self.plan.name,
            "rows": self.plan.rows,
            "dim": self.dim,
            "salt": self.salt,
            "size_bytes": {name: (folder / name).stat().st_size for name in self.plan.file_names()},
        }
        write_json(folder / MANIFEST, described)

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Read the manifest of a finished cache.

        Raises:
            DataError: there is none, or a file is missing or cut.
            StaleCacheError: it was written by another version of this code.
        """
        file = folder / MANIFEST
        if not file.is_file():
            raise DataError("there is no finished embedding cache", where=folder, fix="run the stage `embed`")
        plain: dict[str, Any] = read_json(file)
        if plain.get("format") != FORMAT:
            raise StaleCacheError(
                f"an embedding cache of format {plain.get('format')}; this program reads format {FORMAT}",
                where=folder,
                fix="run the stage `embed` again",
            )
        sizes: dict[str, int] = plain["size_bytes"]
        damaged = [name for name, size in sizes.items() if _size_of(folder / name) != size]
        if damaged:
            raise DataError(
                f"{counted(len(damaged), 'file')} of this embedding cache missing or cut: {some_of(damaged)}",
                where=folder,
                fix="run the stage `embed` again",
            )
        plan = Plan(plain["plan"], plain["rows"])
        return cls(CacheKey.from_dict(plain["key"]), plan, plain["dim"], plain["salt"])


def path_hashes(paths: Sequence[str], salt: int) -> NDArray[np.uint64]:
    """Return a 64-bit hash of each path; another salt gives other hashes."""
    salted = salt.to_bytes(8, "little")
    digests = (hashlib.blake2b(path.encode(), digest_size=8, salt=salted).digest() for path in paths)
    return np.frombuffer(b"".join(digests), "<u8")


def write_array(path: Path, dtype: np.dtype, shape: tuple[int, ...], blocks: Iterable[NDArray[Any]]) -> None:
    """Write a .npy file atomically, block by block along its first axis.

    `numpy.save` is not used because its errors do not say that a disk is full.
    """
    with atomic_open(path) as handle:
        header = {"descr": npy.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
        npy.write_array_header_1_0(handle, header)
        for block in blocks:
            handle.write(np.ascontiguousarray(block, dtype).tobytes())


def format_of_part(path: Path, key: CacheKey) -> RowFormat:
    """Return how the rows of a part are packed, of which only the file knows how wide they are.

    Raises:
        DataError: it is cut.
    """
    dtype = _map(path).dtype
    return format_of(key, dtype[UnitRows.column].shape[0] if UnitRows.column in (dtype.names or ()) else 0)


def map_array(path: Path, dtype: np.dtype, shape: tuple[int, ...]) -> NDArray[Any]:
    """Return a .npy file as a read-only memory map.

    Raises:
        DataError: it is missing, cut, or not what is expected.
    """
    mapped = _map(path)
    if mapped.dtype != dtype or mapped.shape != shape:
        raise DataError(
            f"expected {shape} of {dtype.itemsize} bytes each, got {mapped.shape} of {mapped.dtype.itemsize}",
            where=path,
            fix="delete it and run the stage `embed` again",
        )
    return np.asarray(mapped)


def _map(path: Path) -> NDArray[Any]:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(
            f"a file of the embedding cache is missing or cut: {error}",
            where=path,
            fix="delete it and run the stage `embed` again",
        ) from error


def _size_of(file: Path) -> int | None:
    return file.stat().st_size if file.is_file() else None
