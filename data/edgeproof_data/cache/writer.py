"""Writing an embedding cache: in parts, by several processes, across kills."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgeproof_configs.errors import DataError, EdgeproofError
from edgeproof_configs.files import explain_os_errors, sha256_of
from edgeproof_data.cache.finish import merge_parts, remove_leftovers
from edgeproof_data.cache.key import CacheKey
from edgeproof_data.cache.layout import (
    MANIFEST,
    Manifest,
    Plan,
    format_of_part,
    write_array,
)
from edgeproof_data.cache.reader import ABSENT, EmbeddingCache
from edgeproof_data.cache.row_format import TopK, format_of
from edgeproof_data.paths import counted, some_of
from edgeproof_data.sets import ImageSet

Indices = NDArray[np.int64]
POLL_SECONDS = 0.05


class CacheWriter:
    """Fills a cache for a list of images; what an earlier, killed writer finished is kept.

    Each process owns every `world`-th part. A part is collected in memory and written at once, so a kill
    costs at most one part of work. Rows of a finished cache with the same key in the same folder are taken
    over for images that did not change; a cache with another key is replaced when this one is finished.

    ```python
    writer = CacheWriter(folder, key, images)
    for indices in batches(writer.pending()):
        writer.add(indices, teacher.encode_image(load(images, indices)))
    cache = writer.finish()
    ```

    Args:
        folder: of the cache.
        key: what the rows depend on.
        images: what to embed; row i is image i.
        dim: width of the embeddings; by default that of the first ones added.
        rank: number of this process.
        world: number of processes.
        known: folder of another cache, of which rows are taken over as well that this folder lacks.

    Raises:
        EdgeproofError: the folder cannot be written.
    """

    def __init__(
        self,
        folder: Path,
        key: CacheKey,
        images: ImageSet,
        dim: int | None = None,
        rank: int = 0,
        world: int = 1,
        known: Path | None = None,
    ):
        if not 0 <= rank < world:
            raise ValueError(f"rank must be 0 to {world - 1}, got {rank}")
        if not len(images):
            raise ValueError("expected at least one image")
        self.folder, self.key, self.images, self.dim = folder, key, images, dim
        self.rank, self.world = rank, world
        self._stats = images.stats()
        self.plan = Plan.of(key, images.paths, self._stats)
        with explain_os_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        self._buffers: dict[int, NDArray[np.void]] = {}
        self._missing = np.zeros(len(images), bool)
        earlier = self._finished(folder)
        self._complete = earlier is not None and earlier.plan == self.plan
        sources = [] if self._complete else [earlier, None if known is None else self._finished(known)]
        self._previous = [(cache, self._rows_in(cache)) for cache in sources if cache is not None]
        if not self._complete:
            self._find_missing()

    def pending(self) -> Indices:
        """Return the positions of the images that this process has still to embed, ascending."""
        return np.flatnonzero(self._missing)

    def add(
        self,
        indices: ArrayLike,
        embeddings: NDArray[np.float32] | TopK,
        content_sha256s: Sequence[str] | None = None,
    ) -> None:
        """Add the embeddings of some pending images.

        Args:
            indices: (n,) positions in the image set, each pending.
            embeddings: (n, D) as the teacher gave them; the largest probabilities where the key says so.
            content_sha256s: of the image files, in hex; computed here where the caller has none.

        Raises:
            DataError: an embedding is zero or not finite; names the image.
            EdgeproofError: the disk is full; the parts written so far are kept.
        """
        places = np.asarray(indices, dtype=np.int64)
        if places.ndim != 1 or not len(places) or len(np.unique(places)) != len(places):
            raise ValueError(f"expected distinct positions (n,), got {indices!r}")
        if places.min() < 0 or places.max() >= len(self.images) or not self._missing[places].all():
            raise ValueError(f"not pending for rank {self.rank}: some of {some_of(places.tolist())}")
        records = self._records(places, embeddings, content_sha256s)
        parts = places // self.plan.rows_per_part
        for part in np.unique(parts).tolist():
            chosen = parts == part
            buffer = self._buffer(part)
            buffer[places[chosen] - self.plan.places(part)[0]] = records[chosen]
            self._missing[places[chosen]] = False
            if not self._missing[self.plan.places(part)].any():
                self._write_part(part)

    def finish(self, patience_seconds: float = 3600.0) -> EmbeddingCache:
        """Return the finished cache, once every process has written its parts.

        Rank 0 waits for all parts, joins them and writes the manifest; the others wait for the manifest.

        Args:
            patience_seconds: how long to wait without any new part before giving up.

        Raises:
            EdgeproofError: another process did not finish its share, or the disk is full.
        """
        if self._missing.any():
            count = counted(int(self._missing.sum()), "image")
            raise ValueError(f"{count} of rank {self.rank} not added yet")
        if self.rank == 0:
            if not self._complete:
                self._wait(self._unwritten, patience_seconds)
                merge_parts(self.folder, self.key, self.plan, self.images.paths)
            remove_leftovers(self.folder, self.plan)
        self._wait(self._unfinished, patience_seconds)
        return EmbeddingCache.open(self.folder, self.key)

    def _finished(self, folder: Path) -> EmbeddingCache | None:
        """Return the finished cache of this key in a folder; None if there is none that can be used."""
        if not (folder / MANIFEST).exists():
            return None
        try:
            return EmbeddingCache.open(folder, self.key)
        except DataError:
            # Of another key or format, or damaged: everything is computed anew.
            return None

    def _rows_in(self, earlier: EmbeddingCache) -> Indices:
        """Return the row of each image in an earlier cache; `ABSENT` where it is not, or has changed."""
        rows = np.full(len(self.images), ABSENT, np.int64)
        found = earlier.lookup(self.images.paths)
        known = np.flatnonzero(found != ABSENT)
        same = known[earlier.unchanged(self.images.subset(known), found[known])]
        rows[same] = found[same]
        return rows

    def _find_missing(self) -> None:
        for part in range(self.rank, self.plan.parts, self.world):
            places = self.plan.places(part)
            file = self.folder / self.plan.part_name(part)
            if file.exists():
                self.dim = format_of_part(file, self.key).width
                continue
            self._missing[places] = True
            for _, rows in self._previous:
                self._missing[places] &= rows[places] == ABSENT
            if not self._missing[places].any():
                self._buffer(part)
                self._write_part(part)

    def _buffer(self, part: int) -> NDArray[np.void]:
        """Return the records of an unfinished part, with those that an earlier cache has."""
        if part not in self._buffers:
            places = self.plan.places(part)
            if self._previous:
                self.dim = self._previous[0][0].dim
            assert self.dim is not None
            self._buffers[part] = np.zeros(len(places), format_of(self.key, self.dim).record)
            for cache, rows in reversed(self._previous):
                known = rows[places] != ABSENT
                if known.any():
                    records = cache.records(rows[places[known]])
                    records["mtime_ns"] = self._stats[places[known], 1]
                    self._buffers[part][known] = records
        return self._buffers[part]

    def _write_part(self, part: int) -> None:
        records = self._buffers[part]
        write_array(self.folder / self.plan.part_name(part), records.dtype, records.shape, [records])
        del self._buffers[part]

    def _records(
        self, places: Indices, embeddings: NDArray[np.float32] | TopK, content_sha256s: Sequence[str] | None
    ) -> NDArray[np.void]:
        """Return complete records for images and their embeddings."""
        self.dim = self.dim or embeddings.shape[-1]
        rows = format_of(self.key, self.dim)
        files = [self.images.file(index) for index in places]
        records = np.zeros(len(places), rows.record)
        records[rows.column], records["norm"] = rows.pack(embeddings, files)
        records["size"], records["mtime_ns"] = self._stats[places].T
        hashes = content_sha256s or [sha256_of(file) for file in files]
        records["sha256"] = np.frombuffer(bytes.fromhex("".join(hashes)), np.uint8).reshape(len(places), 32)
        return records

    def _unwritten(self) -> int:
        return sum(not (self.folder / self.plan.part_name(part)).exists() for part in range(self.plan.parts))

    def _unfinished(self) -> int:
        """Return 0 once the manifest in the folder is that of this plan."""
        try:
            return int(Manifest.read(self.folder).plan != self.plan)
        except DataError:
            return 1

    def _wait(self, remaining: Callable[[], int], patience_seconds: float) -> None:
        left, since = remaining(), time.monotonic()
        while left:
            time.sleep(POLL_SECONDS)
            now_left = remaining()
            if now_left != left:
                left, since = now_left, time.monotonic()
            elif time.monotonic() - since > patience_seconds:
                raise EdgeproofError(
                    f"another process did not finish its part of the embeddings in {patience_seconds:.0f} s",
                    where=self.folder,
                    fix="look for its error above, then run the same command again: finished parts are kept",
                )
