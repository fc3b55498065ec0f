"""Objects of which each has several views, in a tree of folders."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Annotated, ClassVar, Literal, NamedTuple

import numpy as np
from pydantic import Field, model_validator

from edgeproof_configs.errors import DataError
from edgeproof_configs.registry import register
from edgeproof_configs.schema import DataConfig, PositiveInt
from edgeproof_data.folders import list_images
from edgeproof_data.kept_views import keep_listed
from edgeproof_data.labelling import Labels, check_classes, order_classes
from edgeproof_data.object_parts import (
    APART,
    Parts,
    check_apart,
    enough_views,
    gallery_of,
    parts_of_table,
    parts_of_tree,
    remarks_on_pairs,
    take_out,
)
from edgeproof_data.object_trees import Found, FoundObject, Layout, find_objects
from edgeproof_data.objects import ObjectSet
from edgeproof_data.paths import counted, data_root, resolve_path, some_of
from edgeproof_data.prompts import clean_name, read_labels
from edgeproof_data.sets import SPLITS, DataSource, ImageSet, SplitName, unlabelled

FRACTION = 0.2


class _Content(NamedTuple):
    sets: dict[SplitName, ObjectSet]
    gallery: ObjectSet | None
    class_names: tuple[str, ...]
    unseen: tuple[str, ...]
    remarks: list[str]


@register("data")
class MultiView(DataSource):
    """Objects with several views each: `root/[part/]<class>/<object>/<view>`, or another layout."""

    of_objects: ClassVar[bool] = True

    class Config(DataConfig):
        """Where the objects lie and what they are for; every path but `root` starts at `root`.

        Attributes:
            root: the folder that everything else is relative to.
            layout: how it is arranged (`edgeproof_data.object_trees`); `auto` looks.
            split: csv table `path,part,label`, as `data split` writes it, whose paths are objects and whose
                parts are train, val, test and gallery.
            kept_views: csv table `path,view`, as `data views` writes it, of the views to use.
            views: how many views evaluation shows of each object, evenly spaced; all, if not given.
            too_few: whether objects with fewer views are refused or left out.
            val: fraction of the training objects of each class to choose on, where no part `val` is there.
            test: fraction of the objects of each seen class to test on, where the tree has no parts.
            unseen: classes to keep out of `train` and `val`, or a file of them.
            classes: file of class names, one a line, that fixes their order.
            photos: folder of photos without labels that serve only to distil.
            seed: of the choice of objects for `val` and `test`.
        """

        kind: Literal["multi_view"] = "multi_view"
        root: str | None = None
        layout: Layout = "auto"
        split: str | None = None
        kept_views: str | None = None
        views: PositiveInt | None = None
        too_few: Literal["refuse", "leave_out"] = "refuse"
        val: Annotated[float, Field(gt=0, lt=1)] = FRACTION
        test: Annotated[float, Field(gt=0, lt=1)] = FRACTION
        unseen: tuple[str, ...] | str = ()
        classes: str | None = None
        photos: str | None = None
        seed: int = 0

        @model_validator(mode="after")
        def _has_an_effect(self) -> MultiView.Config:
            if self.too_few == "leave_out" and self.views is None:
                raise ValueError("too_few has no effect without views")
            if self.split is not None and self.test != FRACTION:
                raise ValueError("test has no effect beside split: the table names what is tested")
            return self

    def __init__(self, config: MultiView.Config):
        super().__init__(config)
        self.settings = config

    @property
    def root(self) -> Path:
        """The folder of the data set."""
        return self._root

    @cached_property
    def _root(self) -> Path:
        return data_root(self.settings.root, "objects")

    @property
    def class_names(self) -> tuple[str, ...]:
        """All classes of all parts."""
        return self._content.class_names

    @property
    def unseen(self) -> tuple[str, ...]:
        """The classes that are only tested."""
        return self._content.unseen

    @property
    def label_file(self) -> Path | None:
        """The file of class names, if the recipe names one."""
        return self._place(self.settings.classes)

    def prepare(self) -> None:
        """Check that objects, their views and labels are there and fit together."""
        self.split("train")
        self.photos()

    def split(self, name: SplitName) -> ObjectSet:
        """Return the objects of a part."""
        return self._content.sets[name]

    def gallery(self) -> ObjectSet | None:
        """Return the part `gallery`, with the training objects of queried classes that it lacks."""
        return self._content.gallery

    def photos(self) -> ImageSet | None:
        """Return the photos that serve only to distil."""
        return self._photos

    def remarks(self) -> list[str]:
        """Return which objects are left out, and which classes have none to be found."""
        return self._content.remarks

    def captions(self, name: SplitName) -> list[list[str]] | None:
        """Return nothing: objects have no captions."""
        return None

    def files(self) -> list[Path]:
        """Return all views, photos and tables."""
        given = self.settings
        tables = [given.split, given.kept_views, given.classes]
        tables.append(given.unseen if isinstance(given.unseen, str) else None)
        files = [place for place in map(self._place, tables) if place is not None]
        sets = [*self._content.sets.values(), *([self._content.gallery] if self._content.gallery else [])]
        views = {objects.root / view for objects in sets for files_ in objects.views for view in files_}
        photos = self._photos
        return [
            *files,
            *sorted(views),
            *([photos.file(i) for i in range(len(photos))] if photos is not None else []),
        ]

    def _place(self, value: str | None) -> Path | None:
        return None if value is None else resolve_path(value, self.root)

    @cached_property
    def _photos(self) -> ImageSet | None:
        folder = self._place(self.settings.photos)
        return None if folder is None else unlabelled(folder, list_images(folder))

    @cached_property
    def _content(self) -> _Content:
        found = find_objects(self.root, self.settings.layout, self._place(self.settings.photos))
        table = self._place(self.settings.kept_views)
        objects = found.objects if table is None else keep_listed(found.objects, table)
        held_out = found.held_out if self.settings.split is None else ()
        unseen = tuple(dict.fromkeys([*self._unseen_names(), *held_out]))
        self._refuse_leak(found, held_out)
        parts, remarks = self._parts(objects, unseen)
        gallery = gallery_of(parts)
        tested = parts["test"] + (gallery or [])
        labels: Labels = {
            "train": [item.label for item in parts["train"]],
            "val": [item.label for item in parts["val"]],
            "test": [item.label for item in tested],
        }
        class_names = order_classes(labels, self.label_file, self.root)
        check_classes(labels, unseen, self.root)
        sets: dict[SplitName, ObjectSet] = {
            name: self._object_set(parts[name], class_names) for name in SPLITS
        }
        return _Content(
            sets,
            None if gallery is None else self._object_set(gallery, class_names),
            class_names,
            unseen,
            remarks,
        )

    def _parts(self, objects: list[FoundObject], unseen: tuple[str, ...]) -> tuple[Parts, list[str]]:
        """Return the objects of each part, and what is to be said of them."""
        given, table = self.settings, self._place(self.settings.split)
        if table is not None:
            named = parts_of_table(objects, table, unseen, self.root)
            kept, remarks = self._shown([item for items in named.values() for item in items])
            parts: Parts = {name: [item for item in items if item in kept] for name, items in named.items()}
        else:
            kept, remarks = self._shown(objects)
            parts = parts_of_tree(list(kept), unseen, given.test, given.seed)
        check_apart(parts, self.root)
        learnt: tuple[SplitName, ...] = ("train", "val")
        for name in learnt:
            own = parts.get(name, [])
            parts[name] = [item for item in own if item.label not in unseen]
            if len(own) > len(parts[name]):
                count = counted(len(own) - len(parts[name]), "object")
                remarks.append(f"{count} of unseen classes kept out of {name}")
        if not parts["val"]:
            parts["train"], parts["val"] = take_out(parts["train"], given.val, given.seed + APART)
        for name in SPLITS:
            if not parts.get(name):
                raise DataError(
                    f"no object is left for {name}", where=self.root, fix="add objects, or change data.val"
                )
        return parts, remarks + remarks_on_pairs(parts, self.root)

    def _shown(self, objects: list[FoundObject]) -> tuple[dict[FoundObject, None], list[str]]:
        """Return the objects that have as many views as evaluation shows, and what is said of the others."""
        leave_out = self.settings.too_few == "leave_out"
        return enough_views(objects, self.settings.views, leave_out, self.root)

    def _refuse_leak(self, found: Found, held_out: tuple[str, ...]) -> None:
        """Refuse a class that the layout itself calls unseen and that is trained on.

        Raises:
            DataError: there is one.
        """
        trained = {item.label for item in found.objects if item.part in ("train", "val")}
        both = sorted(trained & set(held_out))
        if both:
            raise DataError(
                f"{counted(len(both), 'class is', 'classes are')} both seen and unseen: {some_of(both)}",
                where=self.root,
                fix="move their objects to DS or to DU, or give data.split",
            )

    def _unseen_names(self) -> tuple[str, ...]:
        given = self.settings.unseen
        names = (
            read_labels(resolve_path(given, self.root)) if isinstance(given, str) else map(clean_name, given)
        )
        return tuple(names)

    def _object_set(self, objects: list[FoundObject], class_names: tuple[str, ...]) -> ObjectSet:
        position = {name: index for index, name in enumerate(class_names)}
        return ObjectSet(
            self.root,
            tuple(found.path for found in objects),
            np.array([position[found.label] for found in objects], np.int64),
            class_names,
            tuple(found.views for found in objects),
            self.settings.views,
        )
