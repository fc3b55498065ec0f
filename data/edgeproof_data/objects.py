"""Objects that several photos show: a set whose items are objects, beside the set of their views."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgeproof_data.sets import ImageSet

Positions = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class ObjectSet(ImageSet):
    """An ordered set of objects, each with its views.

    Wherever an `ImageSet` is asked for an object stands for an image: its label is the object's, its path the
    object's folder, its file the first view that is shown. What a network sees of it is `(V, 3, H, W)`.

    Attributes:
        views: image files of each object, posix paths relative to `root`, in the order of the views; each
            file is a view of one object only.
        shown: V, how many of its views evaluation shows of each object, evenly spaced; None shows all, and
            then all objects have the same number.
    """

    views: tuple[tuple[str, ...], ...] = ()
    shown: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        counts = {len(files) for files in self.views}
        if len(self.views) != len(self.paths) or 0 in counts:
            raise ValueError(f"expected views of each of {len(self.paths)} objects, got {len(self.views)}")
        if self.shown is None and len(counts) > 1:
            raise ValueError(f"objects have {min(counts)} to {max(counts)} views: say how many are shown")
        if self.shown is not None and not 1 <= self.shown <= min(counts, default=self.shown):
            raise ValueError(f"cannot show {self.shown} views of objects that have {min(counts)}")

    @property
    def view_count(self) -> int:
        """How many views of each object evaluation shows."""
        return self.shown or len(self.views[0])

    def shown_views(self, index: int) -> tuple[str, ...]:
        """Return the views of an object that evaluation shows: number `floor(i n / V)` of its n."""
        files = self.views[index]
        return tuple(files[place] for place in evenly(len(files), self.view_count))

    def file(self, index: int) -> Path:
        """Return where the first view lies that is shown of an object."""
        return self.root / self.shown_views(index)[0]

    def subset(self, indices: ArrayLike) -> ObjectSet:
        """Return the objects at these positions, in this order."""
        chosen = np.asarray(indices, dtype=np.int64).ravel()
        return ObjectSet(
            self.root,
            tuple(self.paths[index] for index in chosen),
            self.labels[chosen],
            self.class_names,
            tuple(self.views[index] for index in chosen),
            self.shown,
        )

    def showing(self, count: int | None) -> ObjectSet:
        """Return the same objects with another number of views shown.

        Raises:
            ValueError: an object has fewer.
        """
        return replace(self, shown=count)

    def view_images(self) -> ImageSet:
        """Return all views of all objects as images with the label of their object, object by object."""
        owners = np.repeat(np.arange(len(self)), [len(files) for files in self.views])
        files = tuple(file for of_object in self.views for file in of_object)
        return ImageSet(self.root, files, self.labels[owners].astype(np.int64), self.class_names)

    def view_rows(self) -> list[Positions]:
        """Return for each object the positions of its views in `view_images`."""
        ends = np.cumsum([len(files) for files in self.views], dtype=np.int64)
        return [np.arange(end - len(files), end) for files, end in zip(self.views, ends, strict=True)]

    def shown_rows(self) -> Positions:
        """Return the positions (M, V) in `view_images` of what evaluation shows."""
        rows = [of_object[evenly(len(of_object), self.view_count)] for of_object in self.view_rows()]
        return np.stack(rows) if rows else np.zeros((0, self.view_count), np.int64)


def evenly(count: int, wanted: int) -> Positions:
    """Return `wanted` of `count` places in a circle, evenly spaced: `floor(i count / wanted)`."""
    if not 1 <= wanted <= count:
        raise ValueError(f"cannot choose {wanted} of {count} views")
    return np.arange(wanted, dtype=np.int64) * count // wanted


def single_images(images: ImageSet) -> ImageSet:
    """Return the images of a set one by one: of objects all their views."""
    return images.view_images() if isinstance(images, ObjectSet) else images
