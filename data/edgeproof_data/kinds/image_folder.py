"""A folder of photos with train, validation and test parts."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import numpy as np
from pydantic import Field, model_validator

from edgeproof_configs.errors import DataError, UsageError
from edgeproof_configs.registry import register
from edgeproof_configs.schema import DataConfig
from edgeproof_data.folders import list_images
from edgeproof_data.labelling import Labels, check_classes, folder_labels, order_classes, table_labels
from edgeproof_data.paths import counted, data_root, resolve_path, some_of
from edgeproof_data.prompts import clean_name, read_labels
from edgeproof_data.sets import NO_LABEL, SPLITS, DataSource, ImageSet, SplitName
from edgeproof_data.split_table import Entry, read_split
from edgeproof_data.splitting import stratified_split
from edgeproof_data.tables import check_table_files, read_captions


class _Content(NamedTuple):
    sets: dict[SplitName, ImageSet]
    class_names: tuple[str, ...]
    unseen: tuple[str, ...]


@register("data")
class ImageFolder(DataSource):
    """Photos in folders: `root/<part>/<class>/…/<image>`, or with labels from a table, or without labels."""

    class Config(DataConfig):
        """Where the parts lie and where labels come from; every path but `root` starts at `root`.

        Attributes:
            root: the folder that everything else is relative to.
            train: folder of the training images.
            test: folder of the images that are scored once, at the end, or the fraction of `train` to use for
                that, to which all images of unseen classes come.
            val: folder of the images that choices are made on, or the fraction of `train` to use for that.
            split: csv table `path,part,label`, as `data split` writes it, that names the images of each part
                in place of folders; fractions count only where the table has no part of this name.
            labels: `folders` (the first level below a part is the class, or what `split` says), `none`, or a
                csv table `path,label`.
            unlabelled: parts whose images have no labels although the others have.
            classes: file of class names, one a line, that fixes their order.
            unseen: classes to keep out of `train` and `val`, or a file of them.
            captions: csv table `path,caption`.
            seed: of the choice of validation and test images.
        """

        kind: Literal["image_folder"] = "image_folder"
        root: str | None = None
        train: str = "train"
        test: Annotated[float, Field(gt=0, lt=1)] | str = "test"
        val: Annotated[float, Field(gt=0, lt=1)] | str = 0.1
        split: str | None = None
        labels: str = "folders"
        unlabelled: tuple[SplitName, ...] = ()
        classes: str | None = None
        unseen: tuple[str, ...] | str = ()
        captions: str | None = None
        seed: int = 0

        @model_validator(mode="after")
        def _has_an_effect(self) -> ImageFolder.Config:
            for key in ("unlabelled", "classes", "unseen"):
                if self.labels == "none" and getattr(self, key):
                    raise ValueError(f"{key} has no effect with labels: none")
            if self.unseen and "train" in self.unlabelled:
                raise ValueError("unseen classes cannot be kept out of train while train is unlabelled")
            named = self.train != "train" or (isinstance(self.test, str) and self.test != "test")
            if self.split is not None and named:
                raise ValueError("train and test have no effect beside split: the table names their images")
            if self.split is not None and isinstance(self.val, str):
                raise ValueError("val: a folder has no effect beside split: the table names its images")
            if self.seed and isinstance(self.val, str) and isinstance(self.test, str):
                raise ValueError("seed has no effect where val is a folder")
            shares = [share for share in (self.val, self.test) if not isinstance(share, str)]
            if sum(shares) >= 1:
                raise ValueError(f"val and test leave nothing to train on: {sum(shares):g} of the images")
            return self

    def __init__(self, config: ImageFolder.Config):
        super().__init__(config)
        self.settings = config

    @property
    def root(self) -> Path:
        """The folder of the data set."""
        return self._root

    @cached_property
    def _root(self) -> Path:
        return data_root(self.settings.root, "photos")

    @property
    def class_names(self) -> tuple[str, ...]:
        """All classes of all parts."""
        return self._content.class_names

    @property
    def unseen(self) -> tuple[str, ...]:
        """The classes that only `test` has."""
        return self._content.unseen

    @property
    def label_file(self) -> Path | None:
        """The file of class names, if the recipe names one."""
        return None if self.settings.classes is None else resolve_path(self.settings.classes, self.root)

    def prepare(self) -> None:
        """Check that images, labels and captions are there and fit together."""
        for name in SPLITS:
            self.split(name)
            self.captions(name)

    def split(self, name: SplitName) -> ImageSet:
        """Return the images of a part."""
        return self._content.sets[name]

    def captions(self, name: SplitName) -> list[list[str]] | None:
        """Return the captions of each image of a part."""
        if self._captions is None:
            return None
        paths = self.split(name).paths
        lacking = [path for path in paths if path not in self._captions]
        if lacking:
            raise DataError(
                f"{counted(len(lacking), 'image')} of {name} without a caption: {some_of(lacking)}",
                where=resolve_path(self.settings.captions or "", self.root),
                fix="add rows path,caption",
            )
        return [self._captions[path] for path in paths]

    def files(self) -> list[Path]:
        """Return all images and tables."""
        given = self.settings
        tables = [given.captions, given.classes, given.split]
        tables.append(given.labels if given.labels not in ("folders", "none") else None)
        tables.append(given.unseen if isinstance(given.unseen, str) else None)
        images = [
            images.file(index) for images in self._content.sets.values() for index in range(len(images))
        ]
        return [resolve_path(table, self.root) for table in tables if table is not None] + images

    @cached_property
    def _captions(self) -> dict[str, list[str]] | None:
        if self.settings.captions is None:
            return None
        file = resolve_path(self.settings.captions, self.root)
        captions = read_captions(file)
        check_table_files(file, list(captions), self.root)
        return captions

    @cached_property
    def _split(self) -> list[Entry] | None:
        if self.settings.split is None:
            return None
        file = resolve_path(self.settings.split, self.root)
        entries = read_split(file, self.root)
        unnamed = [entry.path for entry in entries if not entry.label]
        unnamed = [] if self.settings.labels != "folders" else unnamed
        if unnamed:
            raise DataError(
                f"{counted(len(unnamed), 'image')} of this table without a label: {some_of(unnamed)}",
                where=file,
                fix="add them, or set data.labels",
            )
        return entries

    @cached_property
    def _content(self) -> _Content:
        paths = self._list_parts()
        labels: Labels = dict.fromkeys(paths)
        class_names: tuple[str, ...] = ()
        unseen: tuple[str, ...] = ()
        if self.settings.labels != "none":
            labels = {**labels, **self._label_parts(paths)}
            class_names = order_classes(labels, self.label_file, self.root)
            unseen = self._unseen_names()
            check_classes(labels, unseen, self.root)
        sets: dict[SplitName, ImageSet] = {
            name: self._image_set(found, labels[name], class_names) for name, found in paths.items()
        }
        given = sets.get("train")
        seen: tuple[SplitName, ...] = ("train", "val")
        for name in seen:
            if name in sets:
                sets[name] = _without(sets[name], unseen)
        if given is not None and "test" not in sets and not isinstance(self.settings.test, str):
            self._take_test(sets, given, self.settings.test)
        if "val" not in sets and not isinstance(self.settings.val, str) and len(sets["train"]):
            train = sets["train"]
            taken = 0.0 if isinstance(self.settings.test, str) else self.settings.test
            share = self.settings.val / (1 - taken) if "test" not in paths else self.settings.val
            stay, out = stratified_split(train.paths, train.labels, share, self.settings.seed)
            sets["train"], sets["val"] = train.subset(stay), train.subset(out)
        for name in SPLITS:
            if name not in sets or not len(sets[name]):
                key = "data.test" if name == "test" else "data.val"
                raise DataError(
                    f"no image is left for {name}", where=self.root, fix=f"add images, or change {key}"
                )
        bare = self.settings.unlabelled
        for name in SPLITS:
            if name in bare or (name == "val" and "val" not in paths and "train" in bare):
                sets[name] = _without_labels(sets[name])
        return _Content({name: sets[name] for name in SPLITS}, class_names, unseen)

    def _take_test(self, sets: dict[SplitName, ImageSet], given: ImageSet, share: float) -> None:
        """Move some training images to the test part, and there all of the classes that are kept out."""
        train = sets["train"]
        if not len(train):
            return
        stay, out = stratified_split(train.paths, train.labels, share, self.settings.seed)
        held_out = {train.paths[index] for index in out} | (set(given.paths) - set(train.paths))
        sets["train"] = train.subset(stay)
        sets["test"] = given.subset([row for row, path in enumerate(given.paths) if path in held_out])

    def _folders(self) -> dict[SplitName, str]:
        """Return the folder of each part that has one, relative to the root, in posix form."""
        named = {"train": self.settings.train, "val": self.settings.val, "test": self.settings.test}
        folders: dict[SplitName, str] = {}
        for name in SPLITS:
            value = named[name]
            if not isinstance(value, str):
                continue
            folder = Path(value)
            if folder.is_absolute() or ".." in folder.parts:
                raise UsageError(f"data.{name} must lie inside data.root, got '{value}'", where=self.root)
            folders[name] = folder.as_posix()
        return folders

    def _list_parts(self) -> dict[SplitName, list[str]]:
        """Return the images of each part that has a folder, or that the table names, relative to the root."""
        if self._split is not None:
            named: dict[SplitName, list[str]] = {}
            for path, part, _ in sorted(self._split):
                named.setdefault(part, []).append(path)
            return named
        paths: dict[SplitName, list[str]] = {}
        owner: dict[str, SplitName] = {}
        for name, folder in self._folders().items():
            prefix = "" if folder == "." else f"{folder}/"
            paths[name] = [prefix + path for path in list_images(self.root / folder)]
            twice = [path for path in paths[name] if path in owner]
            if twice:
                both = f"both in {owner[twice[0]]} and in {name}"
                raise DataError(
                    f"{counted(len(twice), 'image')} {both}: {some_of(twice)}",
                    where=self.root,
                    fix="give each part a folder of its own",
                )
            owner.update(dict.fromkeys(paths[name], name))
        return paths

    def _label_parts(self, paths: dict[SplitName, list[str]]) -> dict[SplitName, list[str]]:
        wanted: dict[SplitName, list[str]] = dict(paths)
        unlabelled = self.settings.unlabelled
        for name in unlabelled:
            # Images that are taken out of train to be tested on have their labels there.
            if name != "train" or "test" in paths or "test" in unlabelled:
                wanted.pop(name, None)
        if self.settings.labels == "folders" and self._split is not None:
            label = {entry.path: entry.label for entry in self._split}
            return {name: [label[path] for path in found] for name, found in wanted.items()}
        if self.settings.labels == "folders":
            folders = self._folders()
            return {name: folder_labels(self.root, folders[name], found) for name, found in wanted.items()}
        return table_labels(resolve_path(self.settings.labels, self.root), self.root, wanted)

    def _unseen_names(self) -> tuple[str, ...]:
        given = self.settings.unseen
        names = (
            read_labels(resolve_path(given, self.root)) if isinstance(given, str) else map(clean_name, given)
        )
        return tuple(dict.fromkeys(names))

    def _image_set(
        self, paths: list[str], labels: list[str] | None, class_names: tuple[str, ...]
    ) -> ImageSet:
        position = {name: index for index, name in enumerate(class_names)}
        numbers = [NO_LABEL] * len(paths) if labels is None else [position[label] for label in labels]
        return ImageSet(self.root, tuple(paths), np.array(numbers, np.int64), class_names)


def _without_labels(images: ImageSet) -> ImageSet:
    labels = np.full(len(images), NO_LABEL, np.int64)
    return ImageSet(images.root, images.paths, labels, images.class_names)


def _without(images: ImageSet, unseen: tuple[str, ...]) -> ImageSet:
    if not unseen:
        return images
    held_out = [images.class_names.index(name) for name in unseen]
    return images.subset(np.flatnonzero(~np.isin(images.labels, held_out)))
