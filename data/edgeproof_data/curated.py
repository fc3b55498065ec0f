"""A data set of which a table says what stays."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np

from edgeproof_configs.errors import DataError
from edgeproof_data.paths import counted, some_of
from edgeproof_data.sets import SPLITS, DataSource, ImageSet, SplitName
from edgeproof_data.split_table import Entry, read_rows

TABLE = "curated.csv"
"""Rows path, part, label: the word that an image was chosen for, or the class that it has."""


class Curated(DataSource):
    """Those images of a data set that its table names; labels are those of the data, if it has any.

    Args:
        given: the data set.
        table: rows path, part, label.
    """

    def __init__(self, given: DataSource, table: Path):
        super().__init__(given.config)
        self.given, self.table = given, table

    @property
    def root(self) -> Path:
        """The folder of the data set."""
        return self.given.root

    @property
    def class_names(self) -> tuple[str, ...]:
        """All classes of the data set."""
        return self.given.class_names

    @property
    def unseen(self) -> tuple[str, ...]:
        """The classes that only `test` has."""
        return self.given.unseen

    @property
    def label_file(self) -> Path | None:
        """The list of class names that belongs to the data set."""
        return self.given.label_file

    def prepare(self) -> None:
        """Check that what was chosen is there."""
        for name in SPLITS:
            self.split(name)

    def split(self, name: SplitName) -> ImageSet:
        """Return the chosen images of a part.

        Raises:
            DataError: a chosen image is no longer among the data, or nothing was chosen yet.
        """
        return self._sets[name]

    def captions(self, name: SplitName) -> list[list[str]] | None:
        """Return the captions of the chosen images of a part."""
        captions = self.given.captions(name)
        return None if captions is None else [captions[place] for place in self._places[name]]

    def remarks(self) -> list[str]:
        """Return what is to be known of the data set."""
        return self.given.remarks()

    def files(self) -> list[Path]:
        """Return the table, and every file of the data set."""
        return [self.table, *self.given.files()]

    @cached_property
    def _sets(self) -> dict[SplitName, ImageSet]:
        return {name: self.given.split(name).subset(places) for name, places in self._places.items()}

    @cached_property
    def _places(self) -> dict[SplitName, list[int]]:
        if not self.table.is_file():
            raise DataError(
                "no images have been chosen yet", where=self.table, fix="run the stage `curate` first"
            )
        entries = [Entry(*row) for row in read_rows(self.table, SPLITS, "image")]
        places: dict[SplitName, list[int]] = {}
        for name in SPLITS:
            place = {path: index for index, path in enumerate(self.given.split(name).paths)}
            chosen = [entry.path for entry in entries if entry.part == name]
            gone = [path for path in chosen if path not in place]
            if gone:
                raise DataError(
                    f"{counted(len(gone), 'chosen image')} of {name} no longer there: {some_of(gone)}",
                    where=self.table,
                    fix="run the stage `curate` again",
                )
            places[name] = np.sort([place[path] for path in chosen]).astype(int).tolist()
        return places
