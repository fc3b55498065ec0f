"""Finding the objects below a folder and which files are views of each, in the layouts that are about.

`folders`: `[part/]class/object/view.jpg`; `modelnet`: `class/part/object/view.jpg`; `open_set`: `train`,
`query` and `target` as they are published for open-set retrieval, with `query_label.txt` and
`target_label.txt` where objects lie in no class folder; `seen_unseen`: `DS` and `DU`, each with `train` (or
`gallery`) and `retrieval`. Views may lie deeper below their object. An object may also be a row of files in
its class folder that differ in a last number alone: `chair_0001_v007.png`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar, get_args

from edgeproof_configs.errors import DataError
from edgeproof_data.folders import list_images
from edgeproof_data.labelling import clean_unique
from edgeproof_data.paths import counted, some_of
from edgeproof_data.prompts import clean_name

PartName = Literal["train", "val", "test", "gallery"]
Layout = Literal["auto", "folders", "modelnet", "open_set", "seen_unseen"]
PARTS: tuple[PartName, ...] = get_args(PartName)
OPEN_SET: dict[str, PartName] = {"train": "train", "val": "val", "query": "test", "target": "gallery"}
SEEN_UNSEEN: dict[tuple[str, str], PartName] = {
    ("DS", "train"): "train",
    ("DS", "val"): "val",
    ("DS", "retrieval"): "test",
    ("DU", "train"): "gallery",
    ("DU", "gallery"): "gallery",
    ("DU", "retrieval"): "test",
}
VIEW_NUMBER = re.compile(r"^(.+?)(?:[ ._-]+(?:view|v)?|view|v)[ ._-]*\d+$")
"""A file name without its suffix: what names the object, and the number of the view."""
Known = TypeVar("Known", bound=str)


class FoundObject(NamedTuple):
    """An object: its folder (or what its files' names have in common), class, part if any, and views."""

    path: str
    label: str
    part: PartName | None
    views: tuple[str, ...]


class Found(NamedTuple):
    """All objects of a tree, by path, and the layout that they were found in."""

    objects: list[FoundObject]
    layout: Layout

    @property
    def held_out(self) -> tuple[str, ...]:
        """The classes that the layout itself says are not trained on."""
        trained = {found.label for found in self.objects if found.part in ("train", "val")}
        if self.layout == "open_set":
            return tuple(sorted({found.label for found in self.objects} - trained))
        if self.layout == "seen_unseen":
            return tuple(sorted({found.label for found in self.objects if found.path.startswith("DU/")}))
        return ()


class _Owner(NamedTuple):
    """Where a view belongs; `label` is None where a list of labels has to say it."""

    path: str
    label: str | None
    part: PartName | None


def find_objects(root: Path, layout: Layout = "auto", leave_out: Path | None = None) -> Found:
    """Return the objects below a folder, sorted by path, their views in natural order (`2` before `10`).

    Args:
        root: the folder.
        layout: how it is arranged; `auto` looks.
        leave_out: a folder in it that holds no objects.

    Raises:
        DataError: an image belongs to no object, a label is missing, or there is no image at all.
    """
    files = list_images(root)
    if leave_out is not None and leave_out.is_relative_to(root):
        inside = f"{leave_out.relative_to(root).as_posix()}/"
        files = [file for file in files if not file.startswith(inside)]
    layout = layout_of(files) if layout == "auto" else layout
    listed = _label_lists(root) if layout == "open_set" else {}
    split = any(file.split("/")[0] in PARTS for file in files) if layout == "folders" else False
    views: dict[_Owner, list[str]] = {}
    outside = []
    for file in files:
        owner = _owner(file.split("/"), layout, split, listed)
        if owner is None:
            outside.append(file)
        else:
            views.setdefault(owner, []).append(file)
    if outside:
        raise DataError(
            f"{counted(len(outside), 'image belongs', 'images belong')} to no object: {some_of(outside)}",
            where=root,
            fix=f"expected {_expected(layout)}; move them away, or set data.layout",
        )
    words = clean_unique(sorted({owner.label for owner in views if owner.label is not None}), root)
    found = [
        FoundObject(
            owner.path,
            words[owner.label] if owner.label is not None else _listed(owner, listed, root),
            owner.part,
            natural_order(files),
        )
        for owner, files in views.items()
    ]
    return Found(sorted(found, key=lambda item: item.path), layout)


def layout_of(files: Sequence[str]) -> Layout:
    """Return the layout that relative paths have."""
    names = [file.split("/") for file in files]
    top = {parts[0] for parts in names if len(parts) > 1}
    if {"query", "target"} <= top:
        return "open_set"
    if top and top <= {"DS", "DU"}:
        return "seen_unseen"
    second = {parts[1] for parts in names if len(parts) > 2}
    if second and second <= {"train", "val", "test"} and not top & set(PARTS):
        return "modelnet"
    return "folders"


def natural_order(names: Iterable[str]) -> tuple[str, ...]:
    """Return names sorted with numbers by their value, so that the second view comes before the tenth."""

    def key(name: str) -> tuple[list[tuple[bool, int, str]], str]:
        pieces = [piece for piece in re.split(r"(\d+)", name) if piece]
        return [(not p.isdecimal(), int(p) if p.isdecimal() else 0, p) for p in pieces], name

    return tuple(sorted(names, key=key))


def _owner(names: list[str], layout: Layout, split: bool, listed: dict[str, dict[str, str]]) -> _Owner | None:
    """Return the object that a file is a view of; None where it is none's.

    Args:
        names: folders and name of the file.
        layout: of the tree.
        split: whether the first folder names a part.
        listed: labels by object, of parts whose objects lie in no class folder.
    """
    part: PartName | None = None
    start, label_at = 1, 0
    if layout == "modelnet" and len(names) > 2:
        part, start = _known(names[1], PARTS), 2
    elif layout == "seen_unseen" and len(names) > 3:
        part, start, label_at = SEEN_UNSEEN.get((names[0], names[1])), 3, 2
    elif layout == "open_set" and len(names) > 2:
        part, start, label_at = OPEN_SET.get(names[0]), 2, 1
        if names[0] in listed:
            return _Owner("/".join(names[:2]), None, part)
    elif layout == "folders" and split:
        part, start, label_at = _known(names[0], PARTS), 2, 1
    if len(names) <= start or (part is None and (split or layout != "folders")):
        return None
    if len(names) > start + 1:
        return _Owner("/".join(names[: start + 1]), names[label_at], part)
    same = VIEW_NUMBER.match(Path(names[-1]).stem)
    return None if same is None else _Owner("/".join([*names[:-1], same[1]]), names[label_at], part)


def _known(name: str, among: Iterable[Known]) -> Known | None:
    return next((known for known in among if known == name), None)


def _label_lists(root: Path) -> dict[str, dict[str, str]]:
    """Return, for `query` and `target` where a list is there, the label of each object."""
    found: dict[str, dict[str, str]] = {}
    for folder in ("query", "target"):
        file = root / f"{folder}_label.txt"
        if not file.is_file():
            continue
        try:
            lines = file.read_text(encoding="utf-8-sig").splitlines()
        except UnicodeDecodeError as error:
            raise DataError("this is not a text file in UTF-8", where=file, fix="save it as UTF-8") from error
        rows = [line.split(",") for line in lines if line.strip()]
        wrong = [
            number for number, row in enumerate(rows, 1) if len(row) != 2 or not all(map(str.strip, row))
        ]
        if wrong:
            raise DataError("a line is not `object,label`", where=f"{file}:{wrong[0]}", fix="correct it")
        found[folder] = {name.strip(): clean_name(label) for name, label in rows}
    return found


def _listed(owner: _Owner, listed: dict[str, dict[str, str]], root: Path) -> str:
    folder, name = owner.path.split("/")
    if name not in listed[folder]:
        raise DataError(
            f"the object '{name}' has no label", where=root / f"{folder}_label.txt", fix=f"add: {name},label"
        )
    return listed[folder][name]


def _expected(layout: Layout) -> str:
    return {
        "folders": "class/object/view.jpg, below train, val, test or gallery if there are parts",
        "modelnet": "class/train/object/view.jpg and class/test/object/view.jpg",
        "open_set": "train/class/object/view.jpg, and query and target in the same way or with a label list",
        "seen_unseen": "DS/train, DS/retrieval, DU/gallery and DU/retrieval with class/object/view.jpg",
    }[layout]
