"""Stored image embeddings with few labelled ones a class, on which heads are compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgeproof_configs.errors import DataError
from edgeproof_train.heads.evidence import Evidence, Rows, evidence_of

SHOTS = (1, 2, 4, 8, 16)
FEW = 4
"""Most validation images of a class where these are few: as many as shots, but no more (arXiv 2404.02285)."""


@dataclass(frozen=True)
class FewShotSet:
    """A classification set as unit embeddings.

    Attributes:
        name: for tables.
        names: K classes.
        shots: the labelled images by their number a class.
        val: to choose on.
        test: to count on, once.
        text: (K, D) embeddings of the names; None where there are none.
    """

    name: str
    names: tuple[str, ...]
    shots: Mapping[int, Rows]
    val: Rows
    test: Rows
    text: np.ndarray | None = None

    def evidence(self, shots: int, val: Rows | None, *, unlabelled: bool = True) -> Evidence:
        """Return what a head may look at; the test images at most without their labels."""
        features, labels = self.shots[shots]
        return evidence_of(
            self.names,
            features=features,
            labels=labels,
            text=self.text,
            unlabelled=self.test.features if unlabelled else None,
            val_features=None if val is None else val.features,
            val_labels=None if val is None else val.labels,
        )

    def few_val(self, shots: int, seed: int) -> Rows:
        """Return as many validation images of each class as there are shots, four at most, by a seed."""
        return drawn(self.val, min(shots, FEW), seed)

    def of_classes(self, name: str, chosen: Sequence[str], text: np.ndarray) -> FewShotSet:
        """Return the part of some classes, with text for them."""
        places = np.full(len(self.names), -1)
        places[[self.names.index(one) for one in chosen]] = np.arange(len(chosen))

        def kept(rows: Rows) -> Rows:
            at = places[rows.labels] >= 0
            return Rows(rows.features[at], places[rows.labels[at]])

        shots = {count: kept(rows) for count, rows in self.shots.items()}
        return FewShotSet(name, tuple(chosen), shots, kept(self.val), kept(self.test), text)


def drawn(rows: Rows, each: int, seed: int) -> Rows:
    """Return at most so many rows of each class, drawn by a seed."""
    random = np.random.default_rng(seed)
    at = [random.permutation(np.flatnonzero(rows.labels == label))[:each] for label in np.unique(rows.labels)]
    chosen = np.sort(np.concatenate(at))
    return Rows(rows.features[chosen], rows.labels[chosen])


def read_sets(data: Path) -> list[FewShotSet]:
    """Return the sets of the packs `fewshot_b32` and `caltech_clip_b32` under a folder.

    Raises:
        DataError: a file is not there.
    """
    caltech, flowers, pets = (
        read_set(data / "fewshot_b32", name) for name in ("caltech101", "oxford_flowers", "oxford_pets")
    )
    classes = read_lines(data / "caltech_clip_b32" / "text_classes_41.txt")
    text = read_array(data / "caltech_clip_b32" / "text_embeddings_41.npy")
    return [caltech.of_classes("caltech101, 41 classes with text", classes, text), caltech, flowers, pets]


def read_set(folder: Path, name: str) -> FewShotSet:
    """Return the set of one `.npz` file; raises DataError where it is not there."""
    file = found(folder / f"{name}.npz")
    with np.load(file, allow_pickle=False) as pack:
        rows = {
            key: Rows(pack[f"{key}_features"].astype(np.float32), pack[f"{key}_labels"].astype(np.int64))
            for key in ("test", "val", *(f"shots_{count}" for count in SHOTS))
        }
        names = tuple(str(one) for one in pack["classnames"])
    shots = {count: rows[f"shots_{count}"] for count in SHOTS}
    return FewShotSet(name, names, shots, rows["val"], rows["test"])


def read_nouns(data: Path) -> tuple[list[str], np.ndarray]:
    """Return the 1,444 nouns of the pack `caltech_clip_b32` and their text embeddings."""
    folder = data / "caltech_clip_b32"
    return read_lines(folder / "text_bank_1444.txt"), read_array(folder / "text_bank_1444.npy")


def made_up_sets(seed: int = 0) -> list[FewShotSet]:
    """Return two small sets of random classes, to see that a benchmark runs; one has text."""
    random, found_sets = np.random.default_rng(seed), []
    for name, dim in (("made up, with text", 24), ("made up", 16)):
        centres = random.normal(size=(8, dim))

        def rows(each: int, centres: np.ndarray = centres) -> Rows:
            labels = np.repeat(np.arange(8), each)
            return Rows(
                unit(centres[labels] + 1.2 * random.normal(size=(8 * each, centres.shape[1]))), labels
            )

        text = unit(centres + 0.5 * random.normal(size=centres.shape)) if "text" in name else None
        shots = {count: rows(count) for count in SHOTS}
        names = tuple(f"class {number}" for number in range(8))
        found_sets.append(FewShotSet(name, names, shots, rows(6), rows(12), text))
    return found_sets


def unit(rows: np.ndarray) -> np.ndarray:
    """Return rows of length 1, float32."""
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def read_lines(file: Path) -> list[str]:
    """Return the lines of a file; raises DataError where it is not there."""
    return found(file).read_text(encoding="utf-8").splitlines()


def read_array(file: Path) -> np.ndarray:
    """Return an array as float32; raises DataError where the file is not there."""
    return np.load(found(file), allow_pickle=False).astype(np.float32)


def found(file: Path) -> Path:
    """Return a file that is there.

    Raises:
        DataError: it is not.
    """
    if not file.is_file():
        raise DataError("a data pack is not there", where=file, fix="give --data the folder of the packs")
    return file
