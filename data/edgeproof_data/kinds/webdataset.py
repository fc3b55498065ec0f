"""Images in tar shards, on this machine or elsewhere."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import numpy as np
from pydantic import Field, model_validator

from edgeproof_configs.errors import DataError
from edgeproof_configs.progress import progress
from edgeproof_configs.registry import register
from edgeproof_configs.schema import DataConfig
from edgeproof_data.labelling import Labels, check_classes, order_classes
from edgeproof_data.paths import counted, data_root, resolve_path, some_of
from edgeproof_data.prefetch import in_order
from edgeproof_data.prompts import clean_name, read_labels
from edgeproof_data.sets import NO_LABEL, SPLITS, DataSource, SplitName
from edgeproof_data.shards.index import ShardIndex, index_of
from edgeproof_data.shards.listing import is_address, list_shards
from edgeproof_data.shards.members import Shards, ShardSet
from edgeproof_data.shards.remote import discard, fetch
from edgeproof_data.shards.samples import FOLDERS, Samples, Wanted, read_samples
from edgeproof_data.shards.selection import chosen_samples
from edgeproof_data.shards.sums import read_sums
from edgeproof_data.splitting import stratified_split
from edgeproof_deploy.runtime.cache_folder import cache_folder

TEST_SHARDS = "test*.tar"
Fraction = Annotated[float, Field(gt=0, lt=1)]


class _Content(NamedTuple):
    sets: dict[SplitName, ShardSet]
    captions: dict[SplitName, list[list[str]]] | None
    class_names: tuple[str, ...]
    unseen: tuple[str, ...]
    remarks: list[str]
    index_files: list[Path]


@register("data")
class WebDataset(DataSource):
    """Images in tar shards as WebDataset and img2dataset write them: files, or addresses (http, s3, gs)."""

    class Config(DataConfig):
        """Where the shards are and which members of a sample say what.

        Attributes:
            root: folder, or address, that the shards' names start at.
            train: shards to train on: `train-{000..099}.tar`, `train-*.tar`; or whole addresses.
            test: shards that are scored once, at the end; or the fraction of the training samples to use so.
            val: shards that choices are made on, or the fraction of the training samples to use for that.
            split: csv table `path,part,label` of samples `SHARD/MEMBER` of the shards of `train`, as
                `data import` writes it: what is for what, and its class; `val` counts only where the table
                has no part of this name.
            image: suffix of the image where samples have several (`left.jpg`).
            labels: `cls` or another suffix whose text is the class; `json.KEY`; `folders` (the first folder
                in a member's name); `none`. A number counts the lines of `classes` from 0.
            captions: `txt` or another suffix, or `json.KEY`.
            classes: file of class names, one a line.
            unseen: classes to keep out of `train` and `val`.
            cache: folder for indices and for copies of shards that lie elsewhere.
            sums: file as `sha256sum` writes it, that copies of shards must agree with.
            seed: of the choice of samples.
        """

        kind: Literal["webdataset"] = "webdataset"
        root: str | None = None
        train: str = "train*.tar"
        test: Fraction | str = TEST_SHARDS
        val: Fraction | str = 0.1
        split: str | None = None
        image: str | None = None
        labels: str = "cls"
        captions: str | None = None
        classes: str | None = None
        unseen: tuple[str, ...] = ()
        cache: str | None = None
        sums: str | None = None
        seed: int = 0

        @model_validator(mode="after")
        def _has_an_effect(self) -> WebDataset.Config:
            for key in ("classes", "unseen"):
                if self.labels == "none" and getattr(self, key):
                    raise ValueError(f"{key} has no effect with labels: none")
            if self.split is not None and (isinstance(self.val, str) or self.test != TEST_SHARDS):
                raise ValueError(
                    "shards of test and val have no effect beside split: the table names samples"
                )
            if self.split is not None and self.labels not in ("cls", "none"):
                raise ValueError("labels has no effect beside split but for none: the table has them")
            if self.seed and isinstance(self.val, str) and isinstance(self.test, str):
                raise ValueError("seed has no effect where val and test are shards")
            places = [
                self.root or "",
                *(one for one in (self.train, self.val, self.test) if isinstance(one, str)),
            ]
            if self.sums is not None and not any(map(is_address, places)):
                raise ValueError("sums has no effect where all shards are local files")
            return self

    def __init__(self, config: WebDataset.Config):
        super().__init__(config)
        self.settings = config

    @property
    def root(self) -> Path:
        """The folder of the shards; of shards elsewhere the one that keeps their copies."""
        return self._folder / "shards" if is_address(self._start) else Path(self._start)

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
        """Fetch what lies elsewhere, index what is not indexed yet, and check that it fits together."""
        self.split("train")

    def split(self, name: SplitName) -> ShardSet:
        """Return the images of a part."""
        return self._content.sets[name]

    def captions(self, name: SplitName) -> list[list[str]] | None:
        """Return the captions of each image of a part."""
        return None if self._content.captions is None else self._content.captions[name]

    def remarks(self) -> list[str]:
        """Return which members of the shards are not used, and why."""
        return self._content.remarks

    def files(self) -> list[Path]:
        """Return the indices of the shards, which hold the sha256 of every member, and the class list."""
        named = (self.settings.classes, self.settings.split)
        tables = [resolve_path(table, self.root) for table in named if table is not None]
        return [*self._content.index_files, *tables]

    @cached_property
    def _start(self) -> str:
        given = self.settings.root
        if given is not None and is_address(given):
            return given.rstrip("/")
        return str(data_root(given, "shards"))

    @property
    def _folder(self) -> Path:
        given = self.settings.cache
        return cache_folder("webdataset") if given is None else Path(given).expanduser().absolute()

    @cached_property
    def _content(self) -> _Content:
        given = self.settings
        patterns = {"train": given.train, "val": given.val, "test": given.test}
        listed: dict[SplitName, list[str]] = {}
        for name in SPLITS:
            pattern = patterns[name]
            if isinstance(pattern, str) and (given.split is None or name == "train"):
                listed[name] = list_shards(pattern, self._start)
        _refuse_shared(listed)
        indices = self._indices([shard for shards in listed.values() for shard in shards])
        shards = Shards(indices)
        own = given.labels == "none" or given.split is not None
        wanted = Wanted(given.image, None if own else given.labels, given.captions)
        samples: dict[SplitName, Samples] = {}
        first = 0
        for name, found in listed.items():
            ours = indices[first : first + len(found)]
            samples[name] = read_samples(_names(found, self._start), ours, shards, first, wanted)
            first += len(found)
        remarks = [remark for one in samples.values() for remark in one.remarks]
        if given.split is not None:
            table = resolve_path(given.split, self.root)
            samples = chosen_samples(table, samples["train"], labelled=given.labels != "none")
            if "train" not in samples:
                raise DataError("no image of this table is for train", where=table)
        return self._assembled(samples, shards, [index.file for index in indices], remarks)

    def _assembled(
        self, samples: dict[SplitName, Samples], shards: Shards, index_files: list[Path], remarks: list[str]
    ) -> _Content:
        labels: Labels = {name: self._named(one) for name, one in samples.items()}
        class_names: tuple[str, ...] = ()
        if self.settings.labels != "none":
            class_names = order_classes(labels, self.label_file, self.root)
        unseen = tuple(dict.fromkeys(map(clean_name, self.settings.unseen)))
        # Told by part: what a fraction takes out of train has its classes.
        check_classes({name: labels.get(name) for name in SPLITS if name in labels}, unseen, self.root)
        numbers = {name: index for index, name in enumerate(class_names)}
        sets, captions = {}, {}
        for name, one in samples.items():
            words = labels[name]
            rows = [NO_LABEL] * len(one.paths) if words is None else [numbers[word] for word in words]
            sets[name] = ShardSet(
                self.root, tuple(one.paths), np.array(rows, np.int64), class_names, shards, one.members
            )
            captions[name] = one.captions
        self._take_fractions(sets, captions)
        held_out = [numbers[name] for name in unseen]
        for name in ("train", "val"):
            _keep(sets, captions, name, np.flatnonzero(~np.isin(sets[name].labels, held_out)))
        for name in SPLITS:
            if name not in sets or not len(sets[name]):
                raise DataError(f"no image is left for {name}", where=self._start, fix="add samples")
        told = None if self.settings.captions is None else captions
        return _Content(sets, told, class_names, unseen, remarks, index_files)

    def _take_fractions(
        self, sets: dict[SplitName, ShardSet], captions: dict[SplitName, list[list[str]] | None]
    ) -> None:
        """Take the parts that are fractions out of the training samples."""
        taken: tuple[tuple[SplitName, float | str], ...] = (
            ("test", self.settings.test),
            ("val", self.settings.val),
        )
        for name, fraction in taken:
            if isinstance(fraction, str) or name in sets:
                continue
            train = sets["train"]
            if not len(train):
                sets[name], captions[name] = train, captions["train"]
                continue
            stay, out = stratified_split(train.paths, train.labels, fraction, self.settings.seed)
            sets[name], captions[name] = train, captions["train"]
            _keep(sets, captions, name, out)
            _keep(sets, captions, "train", stay)

    def _named(self, samples: Samples) -> list[str] | None:
        """Return the class of each sample in words."""
        if samples.labels is None:
            return None
        if self.label_file is None or self.settings.labels == FOLDERS:
            return [clean_name(label) for label in samples.labels]
        names = read_labels(self.label_file)
        found, beyond = [], []
        for path, label in zip(samples.paths, samples.labels, strict=True):
            if label.isdecimal() and int(label) >= len(names):
                beyond.append(f"{path} ({label})")
            found.append(
                names[int(label)] if label.isdecimal() and int(label) < len(names) else clean_name(label)
            )
        if beyond:
            raise DataError(
                f"{counted(len(beyond), 'label')} beyond the {len(names)} classes: {some_of(beyond)}",
                where=self.label_file,
                fix="labels count its lines from 0",
            )
        return found

    def _indices(self, shards: list[str]) -> list[ShardIndex]:
        """Return the index of each shard; of those that lie elsewhere that of their copy."""
        sums = {} if self.settings.sums is None else read_sums(resolve_path(self.settings.sums, self.root))

        def indexed(shard: str) -> ShardIndex:
            if not is_address(shard):
                return index_of(Path(shard), self._folder / "indices")
            wanted = sums.get(shard.rpartition("/")[2])
            if self.settings.sums is not None and wanted is None:
                raise DataError(f"no sha256 of this shard in {self.settings.sums}", where=shard, fix="add it")
            copy = fetch(shard, self._folder / "shards", wanted)
            try:
                return index_of(copy, self._folder / "indices")
            except DataError as error:
                # Whole as its server sent it, and yet no shard: a copy that is kept would fail for ever.
                discard(copy)
                raise DataError(
                    error.what, where=shard, fix="run the same command again: the copy was deleted"
                ) from error

        found = []
        with progress("index", len(shards), "shards") as shown:
            for one in in_order(indexed, shards, min(os.cpu_count() or 1, 8)):
                found.append(one)
                shown.advance()
        return found


def _keep(
    sets: dict[SplitName, ShardSet],
    captions: dict[SplitName, list[list[str]] | None],
    name: SplitName,
    chosen: np.ndarray,
) -> None:
    sets[name] = sets[name].subset(chosen)
    words = captions[name]
    captions[name] = None if words is None else [words[index] for index in chosen]


def _refuse_shared(listed: dict[SplitName, list[str]]) -> None:
    owner: dict[str, SplitName] = {}
    for name, shards in listed.items():
        twice = [shard for shard in shards if owner.setdefault(shard, name) != name]
        if twice:
            raise DataError(
                f"{counted(len(twice), 'shard')} both in {owner[twice[0]]} and in {name}: {some_of(twice)}",
                fix="give each part shards of its own",
            )


def _names(shards: list[str], start: str) -> list[str]:
    """Return what shards are called in paths: what follows the root, or the address without its scheme."""
    prefix = f"{_bare(start)}/"
    return [_bare(shard).removeprefix(prefix) for shard in shards]


def _bare(place: str) -> str:
    return place.partition("://")[2].lstrip("/") if is_address(place) else place
