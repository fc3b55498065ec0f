"""A part of a data set on its way out: images with labels, captions and, where there are some, embeddings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeproof_configs.errors import UsageError
from edgeproof_data.cache import EmbeddingCache
from edgeproof_data.cache.reader import ABSENT
from edgeproof_data.objects import ObjectSet
from edgeproof_data.sets import SPLITS, DataSource, ImageSet

ROWS_AT_A_TIME = 8192
Reader = Callable[[NDArray[np.int64]], NDArray[np.float32]]


@dataclass(frozen=True, eq=False)
class Part:
    """Images of one part.

    Attributes:
        name: train, val, test, or whatever the part is called.
        images: what is in it.
        captions: of each image, or None.
        dim: width of the embeddings; None where there are none.
        embeddings: gives those of some positions (n,) as float32 (n, dim), as the teacher gave them.
        embedded_by: which embeddings these are; another text where they were others.
    """

    name: str
    images: ImageSet
    captions: list[list[str]] | None = None
    dim: int | None = None
    embeddings: Reader | None = None
    embedded_by: str = ""

    def label(self, index: int) -> str | None:
        """Return the class of an image in words; None where it has none."""
        number = int(self.images.labels[index])
        return self.images.class_names[number] if number >= 0 else None

    def caption(self, index: int) -> list[str]:
        """Return the captions of an image."""
        return [] if self.captions is None else self.captions[index]

    def blocks(self) -> Iterator[NDArray[np.int64]]:
        """Yield the positions of all images, some thousands at a time."""
        for start in range(0, len(self.images), ROWS_AT_A_TIME):
            yield np.arange(start, min(start + ROWS_AT_A_TIME, len(self.images)))


def parts_of_source(source: DataSource, caches: dict[str, EmbeddingCache] | None = None) -> list[Part]:
    """Return the parts of a recipe's data.

    Args:
        source: the data.
        caches: the teacher's embeddings of some parts; of these parts only images that have one are kept.

    Raises:
        UsageError: these are objects with several views.
    """
    if source.of_objects:
        raise UsageError(
            "objects with several views have no row of their own", fix="export their views' folder"
        )
    found = []
    for name in SPLITS:
        images, captions = source.split(name), source.captions(name)
        assert not isinstance(images, ObjectSet)
        cache = (caches or {}).get(name)
        found.append(
            Part(name, images, captions) if cache is None else _embedded(name, images, captions, cache)
        )
    return found


def _embedded(name: Any, images: ImageSet, captions: list[list[str]] | None, cache: EmbeddingCache) -> Part:
    kept = np.flatnonzero(cache.lookup(images.paths) != ABSENT)
    images = images.subset(kept)
    captions = None if captions is None else [captions[index] for index in kept.tolist()]
    rows = cache.find(images)
    return Part(name, images, captions, cache.dim, lambda at: cache.rows(rows[at], raw=True), cache.plan.name)
