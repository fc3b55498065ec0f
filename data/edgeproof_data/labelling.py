"""Which class each image belongs to, by its folder or by a table, and whether the parts' classes fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from edgeproof_configs.errors import DataError, did_you_mean
from edgeproof_data.folders import class_folders
from edgeproof_data.paths import counted, some_of
from edgeproof_data.prompts import clean_name, read_labels
from edgeproof_data.sets import SplitName
from edgeproof_data.tables import check_table_files, read_label_table

Labels = Mapping[SplitName, list[str] | None]
"""The class name of each image of a part, or None where its images have no labels."""


def folder_labels(root: Path, folder: str, paths: Sequence[str]) -> list[str]:
    """Return the class of each image: the cleaned name of the first folder below its part.

    Args:
        root: of the data set.
        folder: of the part, relative to `root`.
        paths: of the part's images, relative to `root`.

    Raises:
        DataError: an image lies outside of the class folders, a class folder is empty, or two are the same
            class.
    """
    start = root / folder
    depth = len(start.relative_to(root).parts)
    parts = [path.split("/") for path in paths]
    outside = [path for path, names in zip(paths, parts, strict=True) if len(names) < depth + 2]
    if outside:
        raise DataError(
            f"{counted(len(outside), 'image')} outside of a class folder: {some_of(outside)}",
            where=start,
            fix="move them into a folder named after their class, or set data.labels=none",
        )
    folders = [names[depth] for names in parts]
    empty = sorted(set(class_folders(start)) - set(folders))
    if empty:
        raise DataError(
            f"{counted(len(empty), 'class folder')} without an image: {some_of(empty)}",
            where=start,
            fix="add images, or remove the folders",
        )
    clean = clean_unique(sorted(set(folders)), start)
    return [clean[name] for name in folders]


def table_labels(
    file: Path, root: Path, parts: Mapping[SplitName, Sequence[str]]
) -> dict[SplitName, list[str]]:
    """Return the class of each image of each part, by a `path,label` table.

    Raises:
        DataError: the table names a missing image, or an image is not in it.
    """
    table = read_label_table(file)
    check_table_files(file, list(table), root)
    for name, paths in parts.items():
        lacking = [path for path in paths if path not in table]
        if lacking:
            raise DataError(
                f"{counted(len(lacking), 'image')} of {name} without a label: {some_of(lacking)}",
                where=file,
                fix=f"add rows path,label, or set data.unlabelled=[{name}]",
            )
    return {name: [table[path] for path in paths] for name, paths in parts.items()}


def order_classes(labels: Labels, file: Path | None, root: Path) -> tuple[str, ...]:
    """Return all class names, sorted or in the order of a label file.

    Raises:
        DataError: there are fewer than two, or one is not in the file.
    """
    found = sorted({label for names in labels.values() for label in names or ()})
    if len(found) < 2:
        raise DataError(
            f"one class only: '{found[0]}'" if found else "no part has labels",
            where=root,
            fix="add a second class (a folder each), or set data.labels=none",
        )
    if file is None:
        return tuple(found)
    listed = read_labels(file)
    unlisted = [f"'{name}'{did_you_mean(name, listed)}" for name in found if name not in listed]
    if unlisted:
        count = counted(len(unlisted), "class", "classes")
        raise DataError(
            f"{count} of the images not in this list: {some_of(unlisted)}",
            where=file,
            fix="add a line for each, or correct the labels",
        )
    return tuple(listed)


def check_classes(labels: Labels, unseen: Sequence[str], root: Path) -> None:
    """Check that what is tested can have been learnt, or is held out on purpose.

    Raises:
        DataError: an unseen class does not exist, or a class of `val` or `test` is neither in `train` nor
            unseen.
    """
    found = {label for names in labels.values() for label in names or ()}
    unknown = [f"'{name}'{did_you_mean(name, sorted(found))}" for name in unseen if name not in found]
    if unknown:
        count = counted(len(unknown), "class", "classes")
        raise DataError(
            f"data.unseen names {count} that no image has: {some_of(unknown)}",
            where=root,
            fix="correct data.unseen",
        )
    trained = labels["train"]
    if trained is None:
        return
    for name in ("val", "test"):
        strange = sorted(set(labels.get(name) or ()) - set(trained) - set(unseen))
        if strange:
            raise DataError(
                f"{counted(len(strange), 'class', 'classes')} of {name} that train lacks: {some_of(strange)}",
                where=root,
                fix="correct the labels, or list the classes that are held out on purpose in data.unseen",
            )


def clean_unique(folders: Sequence[str], start: Path) -> dict[str, str]:
    """Return the class in words that each folder names.

    Args:
        folders: names, each once.
        start: the folder in which they lie, for errors.

    Raises:
        DataError: a name is no word, or two are the same class.
    """
    clean = {folder: clean_name(folder) for folder in folders}
    first: dict[str, str] = {}
    for folder, name in clean.items():
        if not name:
            raise DataError(f"the folder '{folder}' names no class", where=start, fix="rename it")
        if first.setdefault(name, folder) != folder:
            raise DataError(
                f"the folders '{first[name]}' and '{folder}' are the same class '{name}'",
                where=start,
                fix="join them, or rename one",
            )
    return clean
