"""Stored embeddings as the teacher: somebody ran the large model before, and its outputs are all there is.

Two layouts, both `.npy` without pickled objects, any floating-point type, normalised or not:

* `files`: pairs of `embeddings: x.npy` (N, D) and `index: x.csv` with a column `path`, in the rows' order;
* `folder`: one `.npy` an image, (D,) or (1, D), at the image's own relative path: that of `a/b.jpg` is
  `a/b.jpg.npy` or `a/b.npy`.

Paths are relative to `data.root`. An image that has no embedding is an error, never left out in silence.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field, model_validator

from edgeproof_configs import schema
from edgeproof_configs.errors import DataError
from edgeproof_configs.files import digest_of, sha256_of
from edgeproof_configs.registry import register
from edgeproof_data.paths import resolve_path, some_of
from edgeproof_data.sets import ImageSet
from edgeproof_train.arrays import check_rows, open_array, open_rows
from edgeproof_train.stored_index import missing_error, names_under, read_index, refuse_repeated
from edgeproof_train.teacher import Teacher, TeacherPlaces

Place = tuple[int, int]
"""File number and row."""


class StoredFile(schema.Config):
    """One array of embeddings and the list of images that its rows belong to."""

    embeddings: str
    index: str


@register("teacher")
class StoredTeacher(Teacher):
    """Embeddings that were computed earlier, elsewhere."""

    class Config(schema.TeacherConfig):
        """Exactly one of `files` and `folder`. `logit_scale` is the one that the embeddings' model uses."""

        kind: Literal["stored"] = "stored"
        files: tuple[StoredFile, ...] | None = Field(default=None, min_length=1)
        folder: str | None = None
        logit_scale: schema.PositiveFloat = 100.0

        @model_validator(mode="after")
        def _one_layout(self) -> StoredTeacher.Config:
            if (self.files is None) == (self.folder is None):
                raise ValueError("give either files: [{embeddings: x.npy, index: x.csv}] or folder: PATH")
            return self

    live = False

    def __init__(self, config: Config, places: TeacherPlaces):
        super().__init__(config, places)
        root = places.data_root
        self.logit_scale = config.logit_scale
        self._store: IndexedFiles | MirroredFolder
        if config.files is not None:
            pairs = [(resolve_path(f.embeddings, root), resolve_path(f.index, root)) for f in config.files]
            self._store = IndexedFiles(pairs, places.data_root)
        else:
            assert config.folder is not None
            self._store = MirroredFolder(resolve_path(config.folder, root))
        self.embedding_dim = self._store.dim

    def _identity(self) -> dict[str, Any]:
        return {"dim": self.embedding_dim, "weights_sha256": digest_of(self._store.digests())}

    def stored_reader(self, images: ImageSet) -> Callable[[np.ndarray], np.ndarray]:
        """Return a function that reads the embeddings (n, D), float32, of the images at some positions.

        Raises:
            DataError: some images have none; an embedding that is read is zero or not finite; the images lie
                outside data.root.
        """
        names = names_under(images, self.places.data_root)
        store = self._store
        found = store.find(names)

        def read(indices: np.ndarray) -> np.ndarray:
            rows = store.read([found[index] for index in indices])
            check_rows(rows, store.where, [names[index] for index in indices])
            return rows

        return read


class IndexedFiles:
    """Arrays of embeddings with a csv each."""

    def __init__(self, pairs: list[tuple[Path, Path]], data_root: Path | None):
        self.pairs = pairs
        self.where = pairs[0][1]
        self.arrays = [open_rows(embeddings) for embeddings, _ in pairs]
        self.dim = self.arrays[0].shape[1]
        indices = [read_index(index, data_root) for _, index in pairs]
        for (embeddings, index), array, names in zip(pairs, self.arrays, indices, strict=True):
            if array.shape[1] != self.dim:
                raise DataError(
                    f"embeddings have {array.shape[1]} values, those of {pairs[0][0].name} have {self.dim}",
                    where=embeddings,
                    fix="all files must be of one model",
                )
            if len(array) != len(names):
                raise DataError(
                    f"{len(array)} embeddings in {embeddings.name}, {len(names)} images in its index",
                    where=index,
                )
        refuse_repeated([name for names in indices for name in names], self.where)
        self.places = {name: (f, row) for f, names in enumerate(indices) for row, name in enumerate(names)}

    def find(self, names: list[str]) -> list[Place]:
        """Return file number and row of each named image.

        Raises:
            DataError: some have none.
        """
        missing = [name for name in names if name not in self.places]
        if missing:
            raise missing_error(missing, len(names), self.where)
        return [self.places[name] for name in names]

    def read(self, places: list[Place]) -> np.ndarray:
        """Return the embeddings (n, D) float32 at these places."""
        file, row = np.array(places, dtype=np.int64).reshape(-1, 2).T
        out = np.empty((len(places), self.dim), dtype=np.float32)
        for number, array in enumerate(self.arrays):
            out[file == number] = array[row[file == number]]
        return out

    def digests(self) -> list[str]:
        """Return the sha256 of every file, in the order of the recipe."""
        return [sha256_of(file) for pair in self.pairs for file in pair]


class MirroredFolder:
    """A folder with one `.npy` an image."""

    def __init__(self, folder: Path):
        self.where = folder
        self.files = sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*.npy"))
        if not self.files:
            raise DataError("the folder of stored embeddings has no .npy file", where=folder)
        self.dim = self._vector(self.files[0]).shape[0]

    def find(self, names: list[str]) -> list[str]:
        """Return the file of each named image, relative to the folder.

        Raises:
            DataError: some have none, or share one.
        """
        known = set(self.files)
        candidates = [(f"{name}.npy", f"{name.rpartition('.')[0]}.npy") for name in names]
        found = [next((file for file in pair if file in known), None) for pair in candidates]
        missing = [name for name, file in zip(names, found, strict=True) if file is None]
        if missing:
            raise missing_error(missing, len(names), self.where)
        files = [file for file in found if file is not None]
        shared = [file for file, count in Counter(files).items() if count > 1]
        if shared:
            raise DataError(
                f"{len(shared)} embedding files belong to more than one image: {some_of(shared)}",
                where=self.where,
                fix="name them with the image's ending: a/b.jpg.npy and a/b.png.npy",
            )
        return files

    def read(self, files: list[str]) -> np.ndarray:
        """Return the embeddings (n, D) float32 in these files."""
        out = np.empty((len(files), self.dim), dtype=np.float32)
        for row, file in enumerate(files):
            vector = self._vector(file)
            if len(vector) != self.dim:
                raise DataError(
                    f"an embedding of {len(vector)} values, {self.files[0]} has {self.dim}",
                    where=self.where / file,
                    fix="all files must be of one model",
                )
            out[row] = vector
        return out

    def digests(self) -> list[str]:
        """Return path and sha256 of every file."""
        return [f"{file} {sha256_of(self.where / file)}" for file in self.files]

    def _vector(self, file: str) -> np.ndarray:
        array = open_array(self.where / file)
        vector = array[0] if array.ndim == 2 and len(array) == 1 else array
        if vector.ndim != 1 or vector.dtype.kind != "f" or not len(vector):
            raise DataError(
                f"expected floating-point values (D,) or (1, D), got {array.dtype} of shape {array.shape}",
                where=self.where / file,
            )
        return vector
