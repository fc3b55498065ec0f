"""Reading an embedding cache."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgeproof_configs.errors import DataError
from edgeproof_configs.files import sha256_of
from edgeproof_data.cache.half import widen
from edgeproof_data.cache.key import CacheKey, StaleCacheError
from edgeproof_data.cache.layout import (
    ROWS_PER_SHARD,
    TABLES,
    Manifest,
    map_array,
    path_hashes,
)
from edgeproof_data.cache.row_format import TopK, TopKRows, format_of
from edgeproof_data.paths import counted, some_of
from edgeproof_data.sets import ImageSet

Rows = NDArray[np.int64]
ABSENT = -1


class EmbeddingCache:
    """A finished cache. Files are mapped into memory when they are first used, none when it is opened.

    Attributes:
        folder: where it lies.
        key: what the rows depend on.
        dim: width of what the teacher gave: of the rows, or the number of classes.
        top_k: k, where the rows are the k largest class probabilities; None where they are vectors.
    """

    def __init__(self, folder: Path, manifest: Manifest):
        self.folder = folder
        self.key = manifest.key
        self.plan = manifest.plan
        self.dim = manifest.dim
        self._format = format_of(manifest.key, manifest.dim)
        self.top_k = self._format.k if isinstance(self._format, TopKRows) else None
        self._salt = manifest.salt
        self._shards: dict[int, NDArray[Any]] = {}
        self._tables: dict[str, NDArray[Any]] = {}

    @classmethod
    def open(cls, folder: Path, expected: CacheKey | None = None) -> EmbeddingCache:
        """Open a finished cache.

        Args:
            folder: where it lies.
            expected: what its rows must depend on.

        Raises:
            DataError: there is no finished cache, or a file of it is missing or cut.
            StaleCacheError: it was made with something else; says with what.
        """
        manifest = Manifest.read(folder)
        different = [] if expected is None else manifest.key.differences(expected)
        if different:
            raise StaleCacheError(
                f"these embeddings are of something else: {some_of(different)}",
                where=folder,
                fix="run the stage `embed` again, or take the settings that they were made with",
            )
        return cls(folder, manifest)

    def __len__(self) -> int:
        return self.plan.rows

    @cached_property
    def paths(self) -> tuple[str, ...]:
        """The path of each row, relative to the root of the images."""
        text = (self.folder / self.plan.paths_name).read_text(encoding="utf-8")
        return tuple(text.split("\n")[:-1])

    def sha256(self, row: int) -> str:
        """Return the content hash of the image that a row was computed from, in hex."""
        return self._table("index")[row]["sha256"].tobytes().hex()

    def rows(self, indices: ArrayLike, raw: bool = False) -> NDArray[np.float32]:
        """Return embeddings as float32 (n, D).

        Args:
            indices: row numbers (n,).
            raw: as the teacher gave them, up to the rounding of the stored unit vectors; otherwise unit
                vectors.

        Raises:
            DataError: there are only the k largest probabilities of each row.
        """
        if self.top_k is not None:
            raise DataError(
                f"only the {self.top_k} largest class probabilities of each image are stored",
                where=self.folder,
                fix="leave out teacher.top_k to store all class scores",
            )
        wanted = self._checked(indices)
        found = widen(self._values(wanted))
        if raw:
            found *= self._table("norms")[wanted][:, None]
        return found

    def top(self, indices: ArrayLike) -> TopK:
        """Return the k largest probabilities of some rows (n,).

        Raises:
            ValueError: the rows of this cache are vectors.
        """
        if not isinstance(self._format, TopKRows):
            raise ValueError("the rows of this cache are vectors")
        wanted = self._checked(indices)
        return self._format.unpack(self._values(wanted), self._table("norms")[wanted])

    def find(self, images: ImageSet) -> Rows:
        """Return the row of each image.

        An image whose size and mtime are those that were recorded is taken as unchanged; otherwise its
        content is compared.

        Raises:
            DataError: images are not in the cache, or are not what they were when they were embedded.
        """
        rows = self.lookup(images.paths)
        missing = [images.paths[index] for index in np.flatnonzero(rows == ABSENT)]
        if missing:
            raise DataError(
                f"{counted(len(missing), 'image')} without an embedding: {some_of(missing)}",
                where=self.folder,
                fix="run the stage `embed` again",
            )
        changed = [images.paths[index] for index in np.flatnonzero(~self.unchanged(images, rows))]
        if changed:
            raise DataError(
                f"{counted(len(changed), 'image')} changed since they were embedded: {some_of(changed)}",
                where=self.folder,
                fix="run the stage `embed` again",
            )
        return rows

    def lookup(self, paths: Sequence[str]) -> Rows:
        """Return the row of each path, `ABSENT` where there is none."""
        hashes = path_hashes(paths, self._salt)
        known, order = self._table("index")["hash"], self._table("order")
        place = np.searchsorted(known, hashes, sorter=order)
        rows = order[np.minimum(place, len(known) - 1)]
        return np.where(known[rows] == hashes, rows, ABSENT)

    def unchanged(self, images: ImageSet, rows: Rows) -> NDArray[np.bool_]:
        """Return whether each image is still the one that its row was computed from."""
        recorded = self._table("index")[rows]
        stats = images.stats()
        same = recorded["size"] == stats[:, 0]
        for index in np.flatnonzero(same & (recorded["mtime_ns"] != stats[:, 1])).tolist():
            same[index] = sha256_of(images.file(index)) == recorded[index]["sha256"].tobytes().hex()
        return same

    def records(self, rows: Rows) -> NDArray[np.void]:
        """Return all that is stored about some rows, as records of a part."""
        found = np.empty(len(rows), self._format.record)
        found[self._format.column] = self._values(rows)
        found["norm"] = self._table("norms")[rows]
        index = self._table("index")[rows]
        for name in ("size", "mtime_ns", "sha256"):
            found[name] = index[name]
        return found

    def _checked(self, indices: ArrayLike) -> Rows:
        wanted = np.asarray(indices, dtype=np.int64)
        if wanted.ndim != 1 or (len(wanted) and not 0 <= wanted.min() <= wanted.max() < len(self)):
            raise ValueError(f"expected row numbers (n,) from 0 to {len(self) - 1}, got {indices!r}")
        return wanted

    def _values(self, rows: Rows) -> NDArray[Any]:
        """Return the values of some rows as they are stored."""
        if self.plan.shards == 1:
            return self._shard(0)[rows]
        found = np.empty((len(rows), *self._format.shape), self._format.dtype)
        shards, places = np.divmod(rows, ROWS_PER_SHARD)
        for shard in np.unique(shards).tolist():
            chosen = shards == shard
            found[chosen] = self._shard(shard)[places[chosen]]
        return found

    def _shard(self, number: int) -> NDArray[Any]:
        if number not in self._shards:
            shape = (self.plan.shard_rows(number), *self._format.shape)
            file = self.folder / self.plan.shard_name(number)
            self._shards[number] = map_array(file, self._format.dtype, shape)
        return self._shards[number]

    def _table(self, name: str) -> NDArray[Any]:
        if name not in self._tables:
            self._tables[name] = map_array(
                self.folder / self.plan.table_name(name), TABLES[name], (len(self),)
            )
        return self._tables[name]
