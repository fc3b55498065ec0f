"""Which images of a data set mean the same, by the embeddings of a collection that holds them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeproof_configs.errors import DataError
from edgeproof_data.alike import LEAST_COSINE, alike_groups
from edgeproof_data.paths import some_of
from edgeproof_data.search.collection import Collection


@dataclass(frozen=True)
class Likeness:
    """Groups of images that mean the same.

    Attributes:
        groups: of paths, the largest first.
        leaks: those of the groups that are in more than one part, such as train and test.
    """

    groups: list[list[str]]
    leaks: list[list[str]]


class Embedded:
    """The images of a data set with their rows in a collection.

    Args:
        collection: holds every image of the data set, perhaps among others.
        root: the folder that the data set's paths are relative to.

    Raises:
        DataError: the collection has URLs, or images that lie elsewhere.
    """

    def __init__(self, collection: Collection, root: Path):
        inner = root.absolute().resolve()
        outer = None if collection.root is None else collection.root.absolute().resolve()
        if outer is None or not inner.is_relative_to(outer):
            raise DataError(
                f"the collection holds other images than those below {root}",
                where=collection.folder,
                fix="make one of them: edgeproof data index",
            )
        inside = inner.relative_to(outer).as_posix()
        self._prefix = "" if inside == "." else f"{inside}/"
        self._collection = collection

    def rows_of(self, paths: Sequence[str]) -> NDArray[np.int64]:
        """Return the row of each image.

        Raises:
            DataError: some are not in the collection.
        """
        rows = self._collection.cache.lookup([self._prefix + path for path in paths])
        missing = [path for path, row in zip(paths, rows.tolist(), strict=True) if row < 0]
        if missing:
            raise DataError(
                f"{len(missing)} of {len(paths)} images are not in the collection: {some_of(missing)}",
                where=self._collection.folder,
                fix="run `edgeproof data index` again: it embeds only what is new",
            )
        return rows

    def vectors(self, paths: Sequence[str]) -> Picked:
        """Return the embeddings of some images."""
        return Picked(self._collection, self.rows_of(paths))


@dataclass(frozen=True)
class Picked:
    """Some rows of a collection."""

    collection: Collection
    places: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.places)

    def rows(self, indices: object, /) -> NDArray[np.float32]:
        """Return the embeddings at some positions, (n, D) float32."""
        return self.collection.cache.rows(self.places[np.asarray(indices, np.int64)])


def likeness(
    embedded: Embedded, parts: Mapping[str, Sequence[str]], least_cosine: float = LEAST_COSINE
) -> Likeness:
    """Return which images of a data set mean the same.

    Args:
        embedded: where their embeddings are.
        parts: paths by part.
        least_cosine: from which two images count as the same.
    """
    paths = [path for found in parts.values() for path in found]
    part_of = {path: part for part, found in parts.items() for path in found}
    groups = [
        [paths[place] for place in group] for group in alike_groups(embedded.vectors(paths), least_cosine)
    ]
    leaks = [group for group in groups if len({part_of[path] for path in group}) > 1]
    return Likeness(groups, leaks)
