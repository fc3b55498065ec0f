"""What is said of objects with several views before anybody trains on them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgeproof_configs.errors import DataError
from edgeproof_data.check import ScanReport
from edgeproof_data.object_parts import PAIR
from edgeproof_data.object_trees import Found, find_objects
from edgeproof_data.paths import counted, some_of
from edgeproof_data.sets import ImageSet, unlabelled


@dataclass(frozen=True)
class ObjectReport:
    """What the objects of a tree are.

    Attributes:
        objects: how many.
        classes: of how many classes.
        layout: of the tree.
        fewest: views of an object.
        most: views of an object.
        wanted: how many views each object is to have; None where nobody said.
        too_few: objects with fewer, with their number of views.
        lonely: classes with one object: it has no positive, in training as in a search.
    """

    objects: int
    classes: int
    layout: str
    fewest: int
    most: int
    wanted: int | None
    too_few: dict[str, int]
    lonely: list[str]

    @classmethod
    def of(cls, found: Found, wanted: int | None) -> ObjectReport:
        """Count the objects of a tree."""
        counts = {item.path: len(item.views) for item in found.objects}
        classes = Counter(item.label for item in found.objects)
        few = {path: count for path, count in counts.items() if wanted is not None and count < wanted}
        lonely = sorted(name for name, count in classes.items() if count < PAIR)
        smallest, largest = min(counts.values()), max(counts.values())
        return cls(len(counts), len(classes), found.layout, smallest, largest, wanted, few, lonely)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return dict(vars(self))

    def lines(self) -> list[str]:
        """Return the report for a terminal."""
        span = f"{self.fewest}" if self.fewest == self.most else f"{self.fewest} to {self.most}"
        classes = counted(self.classes, "class", "classes")
        lines = [f"{counted(self.objects, 'object')} of {classes}, {span} views each ({self.layout})"]
        if self.too_few:
            few = [f"{path} ({count})" for path, count in self.too_few.items()]
            lines += [f"  {len(few)} with fewer than {self.wanted} views: {some_of(few)}"]
            lines += ["    data.views fewer, or data.too_few=leave_out"]
        elif self.wanted is None and self.fewest < self.most:
            lines += [f"  say how many evaluation shows: data.views={self.fewest}"]
        if self.lonely:
            told = counted(len(self.lonely), "class", "classes")
            lines += [f"  {told} with one object, which has no positive: {some_of(self.lonely)}"]
        return lines


def objects_below(folder: Path, wanted: int | None) -> Found | None:
    """Return the objects of a folder, or None where it looks like single images.

    Args:
        folder: to look at.
        wanted: views that each object is to have; a number says that these are objects.

    Raises:
        DataError: it was said that these are objects, and an image is none's view.
    """
    try:
        found = find_objects(folder)
    except DataError:
        if wanted is not None:
            raise
        return None
    folders = all(item.views[0].startswith(f"{item.path}/") for item in found.objects)
    several = min(len(item.views) for item in found.objects) > 1
    return found if wanted is not None or (folders and several) else None


def views_by_part(folder: Path, found: Found) -> dict[str, ImageSet]:
    """Return the views of each part as images."""
    views: dict[str, list[str]] = {}
    for item in found.objects:
        views.setdefault(item.part or "", []).extend(item.views)
    return {part: unlabelled(folder, files) for part, files in views.items()}


def without_own_likeness(report: ScanReport, found: Found) -> ScanReport:
    """Return a report without groups of views of one object: a cup looks the same from many sides."""
    owner = {view: item.path for item in found.objects for view in item.views}

    def between(groups: Sequence[list[str]]) -> list[list[str]]:
        return [group for group in groups if len({owner[name] for name in group}) > 1]

    near = None if report.near_duplicates is None else between(report.near_duplicates)
    return replace(report, duplicates=between(report.duplicates), near_duplicates=near)
