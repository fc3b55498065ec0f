"""Which objects are for training, validation, test queries and the gallery that queries search."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from edgeproof_configs.errors import DataError
from edgeproof_configs.files import sha256_of
from edgeproof_data.object_trees import PARTS, FoundObject, PartName
from edgeproof_data.paths import counted, some_of
from edgeproof_data.sets import SPLITS
from edgeproof_data.split_table import read_rows
from edgeproof_data.splitting import hash_order

Parts = dict[PartName, list[FoundObject]]
"""The objects of each part that there is, by path."""
PAIR = 2
"""Objects of a class that a search needs, and triplets as well: one that asks and one to be found."""
APART = 1_000_003
"""What is added to the seed where training objects are taken for validation, after those for test."""


def take_out(
    objects: Sequence[FoundObject], much: float | int, seed: int
) -> tuple[list[FoundObject], list[FoundObject]]:
    """Return the objects that stay and those that are taken out, both in their order.

    Each class gives its share, never so much that fewer than two objects stay. Which ones go is decided by a
    hash of seed and path.

    Args:
        objects: to divide.
        much: how many of each class to take out, or which fraction of it (a float above 0 and below 1).
        seed: another seed takes others out.
    """
    if not (much >= 1 if isinstance(much, int) else 0 < much < 1):
        raise ValueError(f"expected a number of objects, or a fraction above 0 and below 1, got {much}")
    order = hash_order([found.path for found in objects], seed)
    by_class: dict[str, list[int]] = {}
    for index in order.tolist():
        by_class.setdefault(objects[index].label, []).append(index)
    taken = {index for members in by_class.values() for index in members[: share(len(members), much)]}
    return (
        [found for index, found in enumerate(objects) if index not in taken],
        [found for index, found in enumerate(objects) if index in taken],
    )


def share(count: int, much: float | int) -> int:
    """Return how many of a class's objects are taken out: two stay, and of a fraction two go if they can."""
    wanted = much if isinstance(much, int) else max(round(count * much), PAIR)
    return max(min(wanted, count - PAIR), 0)


def parts_of_tree(
    objects: Sequence[FoundObject], unseen: Collection[str], fraction: float, seed: int
) -> Parts:
    """Return the parts that a tree has, or, where it has none, make `train` and `test` of it.

    What is made: all objects of unseen classes are tested, of the others a fraction of each class.
    """
    parts: Parts = {}
    if any(found.part is not None for found in objects):
        for found in objects:
            parts.setdefault(found.part or "train", []).append(found)
        return parts
    seen = [found for found in objects if found.label not in unseen]
    train, test = take_out(seen, fraction, seed)
    tested = {found.path for found in test} | {found.path for found in objects if found.label in unseen}
    return {"train": train, "test": [found for found in objects if found.path in tested]}


def parts_of_table(objects: Sequence[FoundObject], file: Path, unseen: Collection[str], root: Path) -> Parts:
    """Return the parts that a table `path,part,label` gives to the objects of a tree.

    Raises:
        DataError: it names an object that is not there, or trains on an unseen class.
    """
    by_path = {found.path: found for found in objects}
    parts: Parts = {}
    absent, leaks = [], []
    for path, part, label in sorted(read_rows(file, PARTS, "object")):
        if path not in by_path:
            absent.append(path)
            continue
        found = by_path[path]._replace(part=part, label=label or by_path[path].label)
        parts.setdefault(part, []).append(found)
        if found.label in unseen and part in ("train", "val"):
            leaks.append(f"{path} ({found.label})")
    if absent:
        raise DataError(
            f"{counted(len(absent), 'object')} of this table not found: {some_of(absent)}",
            where=file,
            fix=f"paths in it start at data.root ({root}): correct them, or make the table again",
        )
    if leaks:
        raise DataError(
            f"{counted(len(leaks), 'object')} of unseen classes in train or val: {some_of(leaks)}",
            where=file,
            fix="give them to test or gallery, or take their classes out of data.unseen",
        )
    return parts


def check_apart(parts: Parts, root: Path) -> None:
    """Check that no object of two parts is the same one.

    Only objects of one class and one name are compared, by the bytes of their views.

    Raises:
        DataError: some are.
    """
    named: dict[tuple[str, str], list[FoundObject]] = {}
    for objects in parts.values():
        for found in objects:
            named.setdefault((found.label, found.path.split("/")[-1]), []).append(found)
    same = [f"{one.path} = {two.path}" for _, (one, two) in _pairs(named) if _share_a_view(one, two, root)]
    if same:
        raise DataError(
            f"{counted(len(same), 'object')} in two parts: {some_of(same)}",
            where=root,
            fix="an object is for one part only: remove it from train",
        )


def without_positive(queries: Sequence[FoundObject], gallery: Sequence[FoundObject] | None) -> list[str]:
    """Return the classes of queries of which nothing is there to be found.

    Args:
        queries: objects that ask.
        gallery: what they search; None where they search each other.
    """
    asked = Counter(found.label for found in queries)
    if gallery is None:
        return sorted(label for label, count in asked.items() if count < PAIR)
    return sorted(set(asked) - {found.label for found in gallery})


def gallery_of(parts: Mapping[PartName, Sequence[FoundObject]]) -> list[FoundObject] | None:
    """Return what the queries of test search: the part `gallery`, and training objects of classes it lacks.

    None where there is no such part: then they search each other.
    """
    own = parts.get("gallery")
    if not own:
        return None
    missing = {found.label for found in parts.get("test", ())} - {found.label for found in own}
    return [*own, *(found for found in parts.get("train", ()) if found.label in missing)]


def enough_views(
    objects: Sequence[FoundObject], wanted: int | None, leave_out: bool, root: Path
) -> tuple[dict[FoundObject, None], list[str]]:
    """Return the objects with as many views as evaluation shows, in order, and what is said of the others.

    Args:
        objects: to look at.
        wanted: how many views are shown; None if all, and then all objects must have as many.
        leave_out: leave out objects that have fewer, in place of refusing them.
        root: where they lie, for errors.

    Raises:
        DataError: some have fewer and are not left out, or all have; or the number is not given and differs.
    """
    counts = {found: len(found.views) for found in objects}
    if not counts:
        return {}, []
    least, most = min(counts.values()), max(counts.values())
    few = [found for found, count in counts.items() if count < (most if wanted is None else wanted)]
    if not few:
        return dict.fromkeys(counts), []
    listed = some_of([f"{found.path} ({counts[found]})" for found in few])
    if wanted is None:
        raise DataError(
            f"objects have {least} to {most} views; the fewer: {listed}",
            where=root,
            fix=f"say how many evaluation shows: data.views={least}",
        )
    said = f"{counted(len(few), 'object')} with fewer than {wanted} views: {listed}"
    if not leave_out or len(few) == len(counts):
        raise DataError(
            said, where=root, fix=f"data.views={least}, or leave them out: data.too_few=leave_out"
        )
    return {found: None for found, count in counts.items() if count >= wanted}, [f"left out {said}"]


def remarks_on_pairs(parts: Parts, root: Path) -> list[str]:
    """Return which classes have no pair to learn or to choose on, and which queries nothing to find.

    Raises:
        DataError: no query of test has anything to find.
    """
    remarks = []
    for name in SPLITS:
        alone = without_positive(parts[name], gallery_of(parts) if name == "test" else None)
        if name == "test" and len(alone) == len({found.label for found in parts[name]}):
            raise DataError(
                "no query of test has another object of its class to find",
                where=root,
                fix=f"a class needs {PAIR} objects in test, or one in gallery",
            )
        if alone:
            classes = counted(len(alone), "class has", "classes have")
            remarks.append(f"{classes} no positive in {name} (one object): {some_of(alone)}")
    return remarks


def _pairs(
    named: Mapping[tuple[str, str], list[FoundObject]],
) -> list[tuple[tuple[str, str], tuple[FoundObject, FoundObject]]]:
    return [
        (key, (objects[i], objects[j]))
        for key, objects in named.items()
        for i in range(len(objects))
        for j in range(i + 1, len(objects))
    ]


def _share_a_view(one: FoundObject, two: FoundObject, root: Path) -> bool:
    sizes = {(root / view).stat().st_size for view in one.views}
    alike = [view for view in two.views if (root / view).stat().st_size in sizes]
    if not alike:
        return False
    digests = {sha256_of(root / view) for view in one.views}
    return any(sha256_of(root / view) in digests for view in alike)
