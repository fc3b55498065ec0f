"""Seen and unseen classes of objects: what is trained on, what asks, and what is searched.

The protocol of open-set retrieval: some classes are trained on, others are met in test for the first time.
Of seen classes (DS) most objects train and a part asks; of unseen ones (DU) a part asks and the rest is
searched, or all of them search each other.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from edgeproof_configs.files import explain_os_errors
from edgeproof_data.object_parts import take_out
from edgeproof_data.object_trees import FoundObject, PartName
from edgeproof_data.splitting import hash_order

PLACES: dict[tuple[bool, str], str] = {
    (True, "train"): "DS/train",
    (True, "test"): "DS/retrieval",
    (False, "gallery"): "DU/gallery",
    (False, "test"): "DU/retrieval",
}
"""Whether a class is seen, and the part -> the folder in a tree of links."""


def choose_classes(labels: Sequence[str], seen: int, unseen: int, seed: int) -> tuple[list[str], list[str]]:
    """Return that many seen and unseen classes, each sorted, drawn by a hash of seed and name.

    Raises:
        ValueError: there are not so many classes.
    """
    names = sorted(set(labels))
    if seen + unseen > len(names):
        raise ValueError(f"{seen} seen and {unseen} unseen of {len(names)} classes")
    drawn = [names[place] for place in hash_order(names, seed)]
    return sorted(drawn[:seen]), sorted(drawn[seen : seen + unseen])


def split_of(
    objects: Sequence[FoundObject],
    seen: Sequence[str],
    unseen: Sequence[str],
    retrieval: float | int,
    seed: int,
    *,
    each_other: bool = False,
) -> list[FoundObject]:
    """Return the objects of these classes with their part, in their order.

    Args:
        objects: to divide; those of other classes are left out.
        seen: classes whose objects are `train`, but for some that are `test`.
        unseen: classes whose objects are `gallery`, but for some that are `test`.
        retrieval: the fraction of each class, or how many of it, as `object_parts.share` has it.
        seed: another seed draws other objects.
        each_other: all objects of unseen classes are `test`.
    """
    known = [found for found in objects if found.label in seen]
    new = [found for found in objects if found.label in unseen]
    train, asked = take_out(known, retrieval, seed)
    rest, others = ([], new) if each_other else take_out(new, retrieval, seed)
    part: dict[str, PartName] = dict.fromkeys((found.path for found in asked + others), "test")
    part |= dict.fromkeys((found.path for found in train), "train")
    part |= dict.fromkeys((found.path for found in rest), "gallery")
    return [found._replace(part=part[found.path]) for found in objects if found.path in part]


def link_split(root: Path, objects: Sequence[FoundObject], unseen: Sequence[str], out: Path) -> None:
    """Write a tree `DS|DU/<part>/<class>/<object>` of links to the views below a folder.

    Args:
        root: that the objects' paths start at.
        objects: each with its part.
        unseen: the classes of DU.
        out: a new folder.
    """
    named = Counter((found.label, found.path.split("/")[-1]) for found in objects)
    for found in objects:
        place = PLACES[found.label not in unseen, found.part or "train"]
        name = found.path.split("/")[-1]
        # Parts of the old tree may count their objects afresh, each from 1.
        name = name if named[found.label, name] == 1 else found.path.replace("/", "_")
        link_views(root, found, out / place / found.label.replace(" ", "_") / name)


def link_label_lists(root: Path, out: Path) -> None:
    """Link the lists of labels of open-set layouts, where there are any."""
    for folder in ("query", "target"):
        source = root / f"{folder}_label.txt"
        if source.is_file():
            (out / source.name).symlink_to(os.path.relpath(source, out.resolve()))


def link_views(root: Path, found: FoundObject, folder: Path) -> None:
    """Make a folder with a relative link to each view of an object, by the view's own path below it."""
    for view in found.views:
        inside = view.removeprefix(f"{found.path}/") if view.startswith(f"{found.path}/") else Path(view).name
        link = folder / inside
        with explain_os_errors(link):
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(os.path.relpath(root / view, link.parent.resolve()))
