"""Deciding which images of a data set stay.

Of images that are the same, by their bytes, by how they look or by what they mean, one stays: the one of the
test part before that of validation, and that before one to train on, so that nothing that is tested was
trained on. Images to train on may also have to fit the words of their class.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeproof_data.alike import Vectors, alike_groups
from edgeproof_data.check import ScanReport
from edgeproof_data.cleaning.likeness import Embedded
from edgeproof_data.paths import counted
from edgeproof_data.search.exact import DECIMALS
from edgeproof_data.sets import SplitName
from edgeproof_data.split_table import Entry

STAYS_BEFORE: dict[SplitName, int] = {"test": 0, "val": 1, "train": 2}
CORRUPT, EMPTY, SMALL = "corrupt", "empty", "too small"
SAME_BYTES, SAME_LOOK, SAME_MEANING = "same bytes", "same look", "same meaning"
FAR, OTHER = "far from its words", "nearer to other words"


@dataclass(frozen=True)
class Removed:
    """An image that does not stay.

    Attributes:
        entry: path, part and label.
        reason: why, as one of the words above.
        detail: the image that stays in its place, or what is wrong with it.
        part: of the image that stays; empty where there is none.
    """

    entry: Entry
    reason: str
    detail: str
    part: str = ""

    @property
    def leaked(self) -> bool:
        """Whether it is the twin of an image of another part."""
        return bool(self.part) and self.part != self.entry.part


@dataclass(frozen=True)
class Cleaning:
    """What stays, in the order given, and what does not.

    Attributes:
        kept: images that stay.
        removed: images that do not, in the order in which it was found out.
        conflicts: pairs of twins that have different labels: removed path, kept path.
    """

    kept: list[Entry]
    removed: list[Removed]
    conflicts: list[tuple[str, str]]

    def counts(self) -> dict[str, int]:
        """Return how many images do not stay, by reason."""
        return dict(Counter(one.reason for one in self.removed))

    def leaks(self) -> dict[str, int]:
        """Return how many twins over parts were removed, as `train in test`."""
        return dict(Counter(f"{one.entry.part} in {one.part}" for one in self.removed if one.leaked))

    def lines(self) -> list[str]:
        """Return the counts in words."""
        shown = [f"{counted(len(self.kept), 'image')} stay of {len(self.kept) + len(self.removed)}"]
        shown += [f"  {count} {reason}" for reason, count in self.counts().items()]
        shown += [f"  {count} of these leaked: {which}" for which, count in sorted(self.leaks().items())]
        if self.conflicts:
            one, other = self.conflicts[0]
            shown.append(
                f"  {counted(len(self.conflicts), 'twin')} with another label, such as {one} = {other}"
            )
        return shown


def removed_table(removed: Iterable[Removed]) -> str:
    """Return what does not stay as csv: path, part, label, reason, detail."""
    text = io.StringIO(newline="")
    rows = [(*one.entry, one.reason, one.detail) for one in removed]
    csv.writer(text, lineterminator="\n").writerows([("path", "part", "label", "reason", "detail"), *rows])
    return text.getvalue()


class Sieve:
    """Takes images out, one test after the other.

    Args:
        entries: the images.
        settled: parts whose images stay whatever is found: somebody chose them.
    """

    def __init__(self, entries: Sequence[Entry], settled: Collection[str] = ()):
        self._kept = list(entries)
        self._settled = frozenset(settled)
        self._removed: list[Removed] = []
        self._conflicts: list[tuple[str, str]] = []

    @property
    def kept(self) -> list[Entry]:
        """What stays so far, in the order given."""
        return self._kept

    def result(self) -> Cleaning:
        """Return what stays and what does not."""
        return Cleaning(self._kept, self._removed, self._conflicts)

    def take_out_unusable(self, report: ScanReport) -> None:
        """Take out what a scan of these images found to be no image, empty or too small."""
        wrong = {path: (CORRUPT, reason) for path, reason in report.corrupt}
        wrong |= dict.fromkeys(report.empty, (EMPTY, ""))
        wrong |= {path: (SMALL, f"{side} px") for path, side in report.too_small}
        self._take_out(
            [Removed(one, *wrong[one.path]) for one in self._kept if one.path in wrong],
        )

    def take_out_twins(self, groups: Sequence[Sequence[str]], reason: str) -> None:
        """Of each group of paths leave one image: of test before val before train, then by path."""
        known = {one.path: one for one in self._kept}
        removed = []
        for group in groups:
            ours = [known[path] for path in group if path in known]
            ours.sort(key=lambda one: (one.part not in self._settled, STAYS_BEFORE[one.part], one.path))
            for one in ours[1:]:
                removed.append(Removed(one, reason, ours[0].path, ours[0].part))
                if one.label != ours[0].label:
                    self._conflicts.append((one.path, ours[0].path))
        self._take_out(removed)

    def take_out_alike(self, embedded: Embedded, least_cosine: float) -> None:
        """Of images that mean the same leave one."""
        paths = [one.path for one in self._kept]
        groups = alike_groups(embedded.vectors(paths), least_cosine)
        self.take_out_twins([[paths[place] for place in group] for group in groups], SAME_MEANING)

    def take_out_unfitting(
        self, embedded: Embedded, words: Mapping[str, NDArray[np.float32]], floor: float, agree: bool
    ) -> None:
        """Take out images to train on whose embedding is far from the words of their label.

        Test and validation images stay: a test without the hard images would flatter.

        Args:
            embedded: where the embeddings are.
            words: a unit vector (D,) for each label.
            floor: least cosine with the own label.
            agree: whether no other label may be nearer.

        Raises:
            KeyError: a label has no words.
        """
        ours = [one for one in self._kept if one.part == "train"]
        names = list(words)
        place = {name: row for row, name in enumerate(names)}
        places = np.array([place[one.label] for one in ours], np.int64)
        scores = _own_and_best(embedded.vectors([one.path for one in ours]), words, places)
        removed = []
        for one, (own, best, other) in zip(ours, scores, strict=True):
            if own < floor:
                removed.append(Removed(one, FAR, f"{own:.3f}"))
            elif agree and best > own:
                removed.append(Removed(one, OTHER, f"{names[other]} {best:.3f}, own {own:.3f}"))
        self._take_out(removed)

    def _take_out(self, found: Sequence[Removed]) -> None:
        removed = [one for one in found if one.entry.part not in self._settled]
        gone = {one.entry.path for one in removed}
        self._kept = [one for one in self._kept if one.path not in gone]
        self._removed += removed


def _own_and_best(
    vectors: Vectors, words: Mapping[str, NDArray[np.float32]], places: NDArray[np.int64]
) -> list[tuple[float, float, int]]:
    """Return of each image the cosine with its own label, the largest one, and whose that is."""
    matrix = np.stack(list(words.values())).astype(np.float64)
    found = []
    for start in range(0, len(vectors), 8_192):
        rows = np.arange(start, min(start + 8_192, len(vectors)))
        scores = np.round(vectors.rows(rows).astype(np.float64) @ matrix.T, DECIMALS)
        own, best = scores[np.arange(len(rows)), places[rows]], scores.argmax(axis=1)
        found += zip(own.tolist(), scores.max(axis=1).tolist(), best.tolist(), strict=True)
    return found
