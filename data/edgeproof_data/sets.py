"""Images with their labels, and the base of everything that images come from."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgeproof_configs.schema import DataConfig

SplitName = Literal["train", "val", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "val", "test")
NO_LABEL = -1


@dataclass(frozen=True, eq=False)
class ImageSet:
    """An ordered set of image files.

    Attributes:
        root: the folder that `paths` are relative to.
        paths: posix paths, each at most once.
        labels: (N,) int64, positions in `class_names`; -1 where an image has no label.
        class_names: the classes as words; empty where nothing is labelled.
    """

    root: Path
    paths: tuple[str, ...]
    labels: NDArray[np.int64]
    class_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.labels.shape != (len(self.paths),) or self.labels.dtype != np.int64:
            got = f"{self.labels.dtype} {self.labels.shape}"
            raise ValueError(f"expected labels int64 ({len(self.paths)},), got {got}")
        if len(self.labels) and not NO_LABEL <= self.labels.min() <= self.labels.max() < len(
            self.class_names
        ):
            raise ValueError(f"labels must be -1 or positions in {len(self.class_names)} class names")

    def __len__(self) -> int:
        return len(self.paths)

    def file(self, index: int) -> Path:
        """Return where an image lies."""
        return self.root / self.paths[index]

    def read(self, index: int) -> bytes:
        """Return the bytes of an image file.

        Raises:
            OSError: it cannot be read.
            DataError: it lies in a shard that cannot be read, or that changed.
        """
        return self.file(index).read_bytes()

    def stats(self) -> NDArray[np.int64]:
        """Return (N, 2): size in bytes and mtime in ns of each image file; -1 where it is gone."""
        found = np.full((len(self), 2), -1, np.int64)
        for row, path in enumerate(self.paths):
            try:
                stat = os.stat(f"{self.root}/{path}")
            except OSError:
                continue
            found[row] = stat.st_size, stat.st_mtime_ns
        return found

    def subset(self, indices: ArrayLike) -> ImageSet:
        """Return the images at these positions, in this order."""
        chosen = np.asarray(indices, dtype=np.int64)
        return ImageSet(
            self.root, tuple(self.paths[index] for index in chosen), self.labels[chosen], self.class_names
        )


def unlabelled(root: Path, paths: Sequence[str]) -> ImageSet:
    """Return images without labels."""
    return ImageSet(root, tuple(paths), np.full(len(paths), NO_LABEL, np.int64))


class DataSource(ABC):
    """Where the images of a recipe come from. Needs no torch.

    Attributes:
        of_objects: whether its splits are objects with several views each.
    """

    Config: ClassVar[type[DataConfig]] = DataConfig
    of_objects: ClassVar[bool] = False

    def __init__(self, config: DataConfig):
        self.config = config

    @property
    def item(self) -> str:
        """What its splits are sets of, in a word: `object` or `image`."""
        return "object" if self.of_objects else "image"

    @property
    @abstractmethod
    def root(self) -> Path:
        """The folder in which other relative paths of a recipe are looked for first."""

    @property
    @abstractmethod
    def class_names(self) -> tuple[str, ...]:
        """All classes as words, in label order; empty where nothing is labelled."""

    @property
    @abstractmethod
    def unseen(self) -> tuple[str, ...]:
        """The classes that only `test` has, on purpose."""

    @property
    def label_file(self) -> Path | None:
        """The list of class names that belongs to the data, one a line, if there is one."""
        return None

    @abstractmethod
    def prepare(self) -> None:
        """Make the images ready, or check that they are there. Calling it again changes nothing.

        Raises:
            DataError: they are not usable.
        """

    @abstractmethod
    def split(self, name: SplitName) -> ImageSet:
        """Return the images of a split, always in the same order."""

    def gallery(self) -> ImageSet | None:
        """Return the labelled objects that the queries of `test` search.

        None: there are none of their own, and every object of `test` searches the other ones.
        """
        return None

    def photos(self) -> ImageSet | None:
        """Return photos without labels that serve only to distil, beside the objects of `train`, if any."""
        return None

    def remarks(self) -> list[str]:
        """Return what somebody who starts a run should know about these data: left out, without a partner."""
        return []

    @abstractmethod
    def captions(self, name: SplitName) -> list[list[str]] | None:
        """Return the captions of each image, in the order of `split(name)`; None where the data have none."""

    @abstractmethod
    def files(self) -> list[Path]:
        """Return every file that the splits depend on."""
