"""A collection of images that can be searched: their embeddings, where they lie, and what is known of them.

A collection is a folder with `embeddings` (a cache), `collection.json` (written last: nothing counts before),
`safety.npy` where the images came with safety tags, and `index.faiss` where it has an approximate index.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgeproof_configs.errors import DataError
from edgeproof_configs.files import atomic_open, read_json, write_json
from edgeproof_data.cache import EmbeddingCache
from edgeproof_data.search.approximate import LARGE, ApproximateIndex, IndexFigures, Kind, build_index

FORMAT = 1
CARD = "collection.json"
EMBEDDINGS = "embeddings"
SAFETY = "safety.npy"
SAFE, UNSURE, UNSAFE, UNKNOWN = range(4)
"""What `safety.npy` says of an image, uint8."""

Place = Literal["path", "url"]
IndexChoice = Literal["auto", "exact", "ivf", "hnsw"]


@dataclass(frozen=True)
class Collection:
    """A finished collection.

    Attributes:
        folder: where it lies.
        place: whether `names` are paths below `root`, or URLs.
        root: the folder of the images; None where they are URLs.
        cache: the embeddings; row i is image i.
        figures: of its approximate index; None where it is searched exactly.
        left_out: how many images could not be taken in, by reason.
    """

    folder: Path
    place: Place
    root: Path | None
    cache: EmbeddingCache
    figures: IndexFigures | None
    left_out: dict[str, int] = field(default_factory=dict)

    @classmethod
    def open(cls, folder: Path) -> Collection:
        """Open a finished collection.

        Raises:
            DataError: there is none, or a file of it is missing or cut.
            StaleCacheError: its embeddings are not those that it was made with.
        """
        card = folder / CARD
        if not card.is_file():
            raise DataError(
                "there is no finished collection",
                where=folder,
                fix="make it: edgeproof data index IMAGES OUT",
            )
        plain = read_json(card)
        if not isinstance(plain, dict) or plain.get("format") != FORMAT:
            raise DataError("a collection of another version", where=card, fix="make it again")
        cache = EmbeddingCache.open(folder / EMBEDDINGS)
        if cache.plan.name != plain["plan"]:
            raise DataError(
                "the embeddings changed since the collection was made",
                where=folder,
                fix="run the same `edgeproof data index` again",
            )
        figures = None if plain["index"] is None else IndexFigures(**plain["index"])
        root = None if plain["root"] is None else Path(plain["root"])
        if plain.get("safety") and not (folder / SAFETY).exists():
            raise DataError(
                "the safety tags are missing",
                where=folder / SAFETY,
                fix="copy the whole folder, or run the same `edgeproof data index` again",
            )
        return cls(folder, plain["place"], root, cache, figures, plain["left_out"])

    def __len__(self) -> int:
        return len(self.cache)

    @property
    def names(self) -> tuple[str, ...]:
        """Path or URL of each image."""
        return self.cache.paths

    @cached_property
    def safety(self) -> NDArray[np.uint8] | None:
        """(N,) `SAFE`, `UNSURE`, `UNSAFE` or `UNKNOWN`; None where the images came without safety tags."""
        file = self.folder / SAFETY
        if not file.exists():
            return None
        try:
            tags = np.load(file, allow_pickle=False)
        except (ValueError, OSError, EOFError) as error:
            raise DataError(f"the safety tags are cut: {error}", where=file, fix="make it again") from error
        if tags.shape != (len(self),):
            raise DataError("the safety tags are of other images", where=file, fix="make it again")
        return tags

    def approximate(self) -> ApproximateIndex | None:
        """Open the approximate index, if there is one."""
        return None if self.figures is None else ApproximateIndex(self.folder, self.cache, self.figures)


def finish_collection(
    folder: Path,
    cache: EmbeddingCache,
    *,
    place: Place,
    root: Path | None,
    index: IndexChoice = "auto",
    safety: Sequence[int] | NDArray[np.uint8] | None = None,
    left_out: dict[str, int] | None = None,
) -> Collection:
    """Write what belongs to a cache of embeddings, build the index, and return the collection.

    Args:
        folder: of the collection, in which the cache lies.
        cache: finished.
        place: whether its images are paths or URLs.
        root: what paths are relative to.
        index: `auto` is exact up to two million images, and `ivf` beyond.
        safety: (N,) a tag for each image.
        left_out: how many images could not be taken in, by reason.
    """
    write_safety(folder, safety)
    kind: Kind | None = None if index in ("auto", "exact") else index
    if index == "auto" and len(cache) > LARGE:
        kind = "ivf"
    figures = None if kind is None else build_index(cache, kind, folder)
    described: dict[str, Any] = {
        "format": FORMAT,
        "place": place,
        "root": None if root is None else str(root),
        "images": len(cache),
        "dim": cache.dim,
        "plan": cache.plan.name,
        "teacher": cache.key.teacher,
        "safety": safety is not None,
        "index": None if figures is None else figures.to_dict(),
        "left_out": left_out or {},
    }
    write_json(folder / CARD, described)
    return Collection.open(folder)


def write_safety(folder: Path, safety: Sequence[int] | NDArray[np.uint8] | None) -> None:
    """Write the safety tags, or remove those of an earlier collection."""
    if safety is None:
        (folder / SAFETY).unlink(missing_ok=True)
        return
    with atomic_open(folder / SAFETY) as handle:
        np.save(handle, np.asarray(safety, np.uint8))
