"""Objects of another collection, for a student that was not trained on it to search in."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from edgeproof_configs.errors import DataError, UsageError
from edgeproof_data.object_parts import gallery_of
from edgeproof_data.object_trees import FoundObject, PartName, find_objects
from edgeproof_data.objects import ObjectSet
from edgeproof_data.paths import counted, some_of
from edgeproof_data.readable import readable


class OtherGallery(NamedTuple):
    """Another collection.

    Attributes:
        name: of its folder.
        objects: what is searched.
        queries: its own queries; None where its objects search each other.
        skipped: (path, reason) of what cannot be read.
    """

    name: str
    objects: ObjectSet
    queries: ObjectSet | None
    skipped: list[tuple[str, str]]

    def remarks(self, views: int) -> list[str]:
        """Return what is not as it was asked for: how many views are shown, and what is left out.

        Args:
            views: that were to be shown of each object.
        """
        said = []
        if self.objects.view_count < views:
            count = counted(self.objects.view_count, "view")
            said.append(f"{self.name}: each object is shown with {count}, not {views}: one has no more")
        if self.skipped:
            listed = some_of([f"{path} ({reason})" for path, reason in self.skipped])
            said.append(f"{self.name}: {counted(len(self.skipped), 'view')} or objects left out: {listed}")
        return said


def read_gallery(folder: Path, views: int) -> OtherGallery:
    """Return the objects of a folder, in any of the layouts of `multi_view`.

    Parts of test (or query) and gallery (or target) keep their meaning; the others are searched as well.

    Args:
        folder: of the objects.
        views: how many are shown of each; fewer of all where one object has fewer.

    Raises:
        UsageError: there is no such folder.
        DataError: it holds no objects that can be read, or no two of one class.
    """
    if not folder.is_dir():
        raise UsageError("there is no such folder of objects", where=folder, fix="--gallery FOLDER")
    root = folder.absolute()
    found = find_objects(root).objects
    parts: dict[PartName, list[FoundObject]] = {}
    for item in found:
        parts.setdefault(item.part or "gallery", []).append(item)
    own = parts.get("test") if "gallery" in parts else None
    searched = gallery_of(parts) if own else None
    names = tuple(sorted({item.label for item in found}))
    shown = min([views, *(len(item.views) for item in found)])
    objects, skipped = readable(_object_set(root, searched or found, names, shown))
    queries = None
    if own:
        queries, more = readable(_object_set(root, own, names, shown))
        skipped += more
    asking = objects if queries is None else queries
    counts = np.bincount(objects.labels, minlength=len(names))
    if not len(asking) or not (counts[asking.labels] > (queries is None)).any():
        raise DataError("no object here has another one of its class to find", where=folder)
    assert isinstance(objects, ObjectSet)
    assert queries is None or isinstance(queries, ObjectSet)
    return OtherGallery(root.name, objects, queries, skipped)


def _object_set(root: Path, items: list[FoundObject], names: tuple[str, ...], shown: int) -> ObjectSet:
    place = {name: index for index, name in enumerate(names)}
    return ObjectSet(
        root,
        tuple(item.path for item in items),
        np.array([place[item.label] for item in items], np.int64),
        names,
        tuple(item.views for item in items),
        shown,
    )
