"""`data filter`: which images of a data set stay, as a table; the images themselves are left alone."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeproof.search_run import Asked
from edgeproof_configs.errors import DataError, UsageError
from edgeproof_configs.files import explain_os_errors, write_text
from edgeproof_data.check import scan
from edgeproof_data.cleaning.cleaning import SAME_BYTES, SAME_LOOK, Cleaning, Sieve, removed_table
from edgeproof_data.cleaning.likeness import Embedded
from edgeproof_data.folders import list_images
from edgeproof_data.paths import counted, some_of
from edgeproof_data.prompts import clean_name
from edgeproof_data.search.collection import Collection
from edgeproof_data.search.manifest import read_manifest
from edgeproof_data.sets import SPLITS, SplitName, unlabelled
from edgeproof_data.split_table import Entry, write_split
from edgeproof_data.splitting import stratified_split


@dataclass(frozen=True)
class Demands:
    """What an image has to pass.

    Attributes:
        smallest_side: pixels of the shorter side.
        near: whether images that look the same count as the same.
        alike: cosine from which images count as the same; None: not looked at.
        floor: least cosine of a training image with the words of its label; None: not looked at.
        agree: whether a training image must be nearest to the words of its own label.
    """

    smallest_side: int
    near: bool
    alike: float | None
    floor: float | None
    agree: bool

    @property
    def of_words(self) -> bool:
        """Whether words are needed."""
        return self.floor is not None or self.agree


@dataclass(frozen=True)
class Places:
    """What is read and written.

    Attributes:
        folder: that paths are relative to.
        out: the table, new.
        manifest: of a search: only its images, with their prompts as labels; None: all images of the folder.
        collection: that holds their embeddings, if any.
        page: a new HTML page, if any.
        links: a new folder of links to what stays, if any.
    """

    folder: Path
    out: Path
    manifest: Path | None = None
    collection: Path | None = None
    page: Path | None = None
    links: Path | None = None

    @property
    def removed(self) -> Path:
        """The table of what does not stay."""
        return self.out.with_suffix(".removed.csv")


def filter_images(
    places: Places,
    demands: Demands,
    asked: Asked,
    prompts: Path | None,
    shares: dict[SplitName, float],
    *,
    seed: int,
    as_json: bool,
) -> int:
    """Write a table `path,part,label` of what stays, and one of what does not and why; return 0.

    Args:
        places: what is read and written.
        demands: what an image has to pass.
        asked: by what words are embedded.
        prompts: the words, where they are not just the labels.
        shares: fraction of what stays for `val` and `test`, where the data have no such parts.
        seed: of that choice.
        as_json: print JSON.

    Raises:
        UsageError: a file is there already, or an option has no effect.
        DataError: nothing stays, an image has no embedding, or a label no words.
    """
    _check(places, demands, asked, prompts)
    entries = entries_of(places.folder, places.manifest)
    if shares and any(one.part != "train" for one in entries):
        raise UsageError("--val and --test have no effect: these images have parts", fix="remove them")
    result = sieved(places, entries, demands, asked, prompts)
    if not result.kept:
        raise DataError("no image stays", where=places.folder, fix="ask for less")
    kept = with_parts(result.kept, shares, seed)
    write_text(places.removed, removed_table(result.removed))
    if places.links is not None:
        make_links(places.folder, kept, places.links)
    if places.page is not None:
        from edgeproof.contact_sheets import write_page

        write_page(places.page, places.folder, Cleaning(kept, result.removed, result.conflicts))
    # Last of all: what stands beside it counts from here on.
    write_split(places.out, kept)
    told = told_of(places, kept, result)
    print(json.dumps(told, indent=2, ensure_ascii=False) if as_json else "\n".join(lines(told, result)))
    return 0


def held_out(val: float | None, test: float | None) -> dict[SplitName, float]:
    """Return the fractions that were asked for, test first."""
    asked: dict[SplitName, float | None] = {"test": test, "val": val}
    found: dict[SplitName, float] = {part: share for part, share in asked.items() if share is not None}
    if sum(found.values()) >= 1:
        raise UsageError("--val and --test leave nothing to train on", fix="ask for less")
    return found


def entries_of(folder: Path, manifest: Path | None) -> list[Entry]:
    """Return the images of a folder, or of a manifest, with part and label.

    Below `train`, `val` and `test` the first folder is the label; images that lie elsewhere are for training,
    and their first folder is the label.
    """
    if manifest is not None:
        place, found = read_manifest(manifest)
        if place != "path":
            raise DataError(
                "this manifest names images by url",
                where=manifest,
                fix="fetch them first: edgeproof data download",
            )
        outside = [one.place for one in found if one.place.startswith("/") or ".." in Path(one.place).parts]
        if outside:
            raise DataError(
                f"{counted(len(outside), 'path')} of this manifest outside of the folder: {some_of(outside)}",
                where=manifest,
                fix="paths are relative to the folder: take these rows out",
            )
        absent = [one.place for one in found if not (folder / one.place).is_file()]
        if absent and any(".tar/" in path for path in absent):
            raise UsageError(
                "this manifest names images in shards, which are chosen and not sieved",
                where=manifest,
                fix=f"edgeproof data import {manifest} OUT.csv --root {folder} --label-column prompt",
            )
        if absent:
            raise DataError(
                f"{counted(len(absent), 'image')} of this manifest missing: {some_of(absent)}",
                where=manifest,
                fix=f"its paths are looked up in {folder}: name the folder that was indexed",
            )
        return [Entry(one.place, "train", clean_name(one.prompt)) for one in found]
    entries = []
    for path in list_images(folder):
        names = path.split("/")
        parts: list[SplitName] = [name for name in SPLITS if name == names[0]]
        inside = names[1:] if names[0] in SPLITS else names
        label = clean_name(inside[0]) if len(inside) > 1 else ""
        entries.append(Entry(path, parts[0] if parts else "train", label))
    return entries


def sieved(
    places: Places, entries: Sequence[Entry], demands: Demands, asked: Asked, prompts: Path | None
) -> Cleaning:
    """Return what passes the demands."""
    by_part = {part: [one.path for one in entries if one.part == part] for part in SPLITS}
    sets = {part: unlabelled(places.folder, paths) for part, paths in by_part.items() if paths}
    report = scan(sets, smallest_side=demands.smallest_side, near=demands.near)
    sieve = Sieve(entries)
    sieve.take_out_unusable(report)
    sieve.take_out_twins(report.duplicates, SAME_BYTES)
    if report.near_duplicates:
        sieve.take_out_twins(report.near_duplicates, SAME_LOOK)
    if places.collection is not None:
        embedded = Embedded(Collection.open(places.collection), places.folder)
        if demands.alike is not None:
            sieve.take_out_alike(embedded, demands.alike)
        if demands.of_words:
            words = _words(places, sieve.kept, asked, prompts)
            sieve.take_out_unfitting(
                embedded, words, -1.0 if demands.floor is None else demands.floor, demands.agree
            )
    return sieve.result()


def with_parts(kept: list[Entry], shares: dict[SplitName, float], seed: int) -> list[Entry]:
    """Return the images with some of each class taken out for validation and test."""
    part_of: dict[str, SplitName] = {one.path: one.part for one in kept}
    left = list(kept)
    rest = 1.0
    for part, fraction in shares.items():
        _, labels = np.unique([one.label for one in left], return_inverse=True)
        _, out = stratified_split([one.path for one in left], labels.astype(np.int64), fraction / rest, seed)
        chosen = {left[place].path for place in out.tolist()}
        part_of |= dict.fromkeys(chosen, "test" if part == "test" else "val")
        left = [one for one in left if one.path not in chosen]
        rest -= fraction
    return [Entry(one.path, part_of[one.path], one.label) for one in kept]


def make_links(folder: Path, kept: Sequence[Entry], links: Path) -> None:
    """Make a tree `part/label/…` of links to the images that stay."""
    seen: Counter[Path] = Counter()
    with explain_os_errors(links):
        for one in kept:
            name = Path(one.path).name
            target = links / one.part / (one.label.replace("/", " ") or ".") / name
            seen[target] += 1
            if seen[target] > 1:
                target = target.with_name(f"{target.stem}-{seen[target]}{target.suffix}")
            target.parent.mkdir(parents=True, exist_ok=True)
            os.symlink((folder / one.path).absolute(), target)


def told_of(places: Places, kept: Sequence[Entry], result: Cleaning) -> dict[str, Any]:
    """Return what was done as plain data."""
    labels = Counter(one.label for one in kept if one.label)
    return {
        "table": str(places.out),
        "removed": str(places.removed),
        "kept": len(kept),
        "parts": dict(Counter(one.part for one in kept)),
        "reasons": result.counts(),
        "leaks": result.leaks(),
        "conflicts": len(result.conflicts),
        "labels": dict(sorted(labels.items(), key=lambda one: (-one[1], one[0]))),
        "page": None if places.page is None else str(places.page),
        "root": str(places.folder.absolute()),
    }


def lines(told: dict[str, Any], result: Cleaning) -> list[str]:
    """Return the same in words."""
    shown = result.lines()
    labels: dict[str, int] = told["labels"]
    if labels:
        names = list(labels)
        shown.append(
            f"  {counted(len(names), 'class', 'classes')}: most {names[0]} {labels[names[0]]},"
            f" fewest {names[-1]} {labels[names[-1]]}"
        )
    shown.append("  " + ", ".join(f"{part} {count}" for part, count in told["parts"].items()))
    if told["page"]:
        shown.append(f"look at it: {told['page']}")
    table = Path(told["table"]).absolute()
    return [*shown, f"in a recipe: --set data.root={told['root']} --set data.split={table}"]


def _check(places: Places, demands: Demands, asked: Asked, prompts: Path | None) -> None:
    if not places.folder.is_dir():
        raise UsageError("there is no such folder", where=places.folder, fix="correct the path")
    if places.out.suffix != ".csv":
        raise UsageError(
            "a table ends in .csv", where=places.out, fix=f"say {places.out.with_suffix('.csv')}"
        )
    for file in (places.out, places.removed, places.page, places.links):
        if file is not None and file.exists():
            raise UsageError("this is there and is not overwritten", where=file, fix="choose another name")
    if places.collection is None and (demands.alike is not None or demands.of_words):
        raise UsageError(
            "what images mean is known by their embeddings",
            fix="make them (edgeproof data index DIR OUT …) and say --collection OUT",
        )
    idle = asked.text is not None or asked.teacher.given or prompts is not None
    if idle and not demands.of_words:
        raise UsageError("words have no effect without --floor or --agree", fix="say one of them")


def _words(
    places: Places, kept: Sequence[Entry], asked: Asked, prompts: Path | None
) -> dict[str, np.ndarray]:
    """Return the embedding of each label of the training images, and of further words."""
    from edgeproof.search_words import wanted_words, words_of

    labels = sorted({one.label for one in kept if one.part == "train"})
    if labels[:1] == [""]:
        raise DataError(
            "images to train on without a label fit no words",
            where=places.folder,
            fix="search for them first (edgeproof data search) and say --manifest",
        )
    if prompts is None:
        wanted = words_of({name: [name] for name in labels}, asked.text, asked.teacher, places.collection)
    else:
        wanted = wanted_words(prompts, asked.text, asked.teacher, places.collection)
    missing = [name for name in labels if name not in wanted.names]
    if missing:
        raise DataError(
            f"{counted(len(missing), 'label')} without words: {some_of(missing)}",
            where=prompts,
            fix="add a line for each",
        )
    return dict(zip(wanted.names, wanted.rows, strict=True))
