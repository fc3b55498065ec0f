"""`data split` and `data proposed`: which images are for what, as a table that a recipe can use."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgeproof_configs.errors import DataError, UsageError
from edgeproof_configs.files import write_text
from edgeproof_data.folders import list_images
from edgeproof_data.labelling import folder_labels
from edgeproof_data.paths import counted, some_of
from edgeproof_data.proposed_split import read_proposed
from edgeproof_data.sets import SPLITS, SplitName
from edgeproof_data.shots import ClassMix, draw_shots
from edgeproof_data.split_table import Entry, write_split

MOST_VAL = 4
"""Validation images of each class at most, where no number is asked for (arXiv 2404.02285)."""
APART = 1_000_003
"""What is added to the seed for the draw of validation images out of what training left."""

Chosen = dict[SplitName, list[tuple[str, str]]]
"""Path and label of each image of a part."""


def split(folder: Path, out: Path, *, shots: int, val_shots: int | None, seed: int, as_json: bool) -> int:
    """Draw a few-shot split, write it, say how frequent the classes are, and return 0.

    A folder with `train` and `test`, and perhaps `val`, keeps its test images: shots come from `train`,
    validation images from `val` or else from what is left of `train`. A folder of class folders gives all
    that is not drawn to `test`.

    Args:
        folder: of the data set.
        out: the table, a new file.
        shots: training images of each class; a class that has fewer gives what it has.
        val_shots: validation images of each class; as many as shots, at most 4, if not given.
        seed: of the draw.
        as_json: print JSON.

    Raises:
        UsageError: there is no such folder, or the file exists.
        DataError: a part has no image.
    """
    if not folder.is_dir():
        raise UsageError("there is no such folder", where=folder, fix="correct the path")
    if out.exists():
        raise UsageError("this file exists and is not overwritten", where=out, fix="choose another name")
    val_shots = min(shots, MOST_VAL) if val_shots is None else val_shots
    chosen = chosen_of(folder, shots, val_shots, seed)
    for name in SPLITS:
        if not chosen[name]:
            raise DataError(
                f"no image is left for {name}", where=folder, fix="ask for fewer --shots or --val-shots"
            )
    write_split(out, (Entry(path, name, label) for name in SPLITS for path, label in sorted(chosen[name])))
    told = frequencies(chosen, {"train": shots, "val": val_shots})
    told |= {"table": str(out), "shots": shots, "val_shots": val_shots, "seed": seed}
    print(json.dumps(told, indent=2, ensure_ascii=False) if as_json else "\n".join(lines(told, folder, out)))
    return 0


def told_shots(shots: int | None, others: Mapping[str, object]) -> int:
    """Return the number of shots.

    Args:
        shots: as given.
        others: options that only objects have, by name, with what was given.

    Raises:
        UsageError: there is none, or an option has no effect beside it.
    """
    idle = [name for name, value in others.items() if value not in (None, False)]
    if shots is None:
        raise UsageError(
            "how is it to be split?",
            fix="--shots N: a few images of each class; --seen N --unseen M: classes of objects with views",
        )
    if idle:
        raise UsageError(
            f"{idle[0]} has no effect beside --shots", fix="remove it, or say --seen and --unseen"
        )
    return shots


def proposed(mats: Path, folder: Path, out: Path) -> int:
    """Write a proposed split as a table, its unseen classes beside it, say what there is, and return 0.

    Args:
        mats: folder with `res101.mat` and `att_splits.mat`.
        folder: of the photos.
        out: the table, a new file.

    Raises:
        UsageError: there is no such folder, or the file exists.
        DataError: the files do not hold a split of these photos.
    """
    unseen_file = out.with_suffix(".unseen.txt")
    for place in (mats, folder):
        if not place.is_dir():
            raise UsageError("there is no such folder", where=place, fix="correct the path")
    for file in (out, unseen_file):
        if file.exists():
            raise UsageError("this file exists and is not overwritten", where=file, fix="choose another name")
    entries, unseen = read_proposed(mats, folder)
    write_split(out, entries)
    write_text(unseen_file, "".join(f"{name}\n" for name in unseen))
    counts = Counter(entry.part for entry in entries)
    hidden = sum(entry.label in set(unseen) for entry in entries)
    print(
        f"{counts['train']} images to train on, {counts['test']} of test, {hidden} of them of"
        f" {counted(len(unseen), 'unseen class', 'unseen classes')}"
    )
    settings = {"root": folder, "split": out.absolute(), "unseen": unseen_file.absolute()}
    print(" ".join(f"--set data.{key}={value}" for key, value in settings.items()))
    return 0


def chosen_of(folder: Path, shots: int, val_shots: int, seed: int) -> Chosen:
    """Return which images are for which part."""
    parts = [name for name in SPLITS if (folder / name).is_dir()]
    if "train" in parts and "test" in parts:
        pools = {name: labelled(folder, name) for name in parts}
        train, left = drawn(pools["train"], shots, seed)
        val, _ = drawn(pools.get("val", left), val_shots, seed + APART)
        return {"train": train, "val": val, "test": pools["test"]}
    train, left = drawn(labelled(folder, "."), shots, seed)
    val, test = drawn(left, val_shots, seed + APART)
    return {"train": train, "val": val, "test": test}


def labelled(folder: Path, part: str) -> list[tuple[str, str]]:
    """Return path and class of the images of a part."""
    prefix = "" if part == "." else f"{part}/"
    paths = [prefix + path for path in list_images(folder / part)]
    return list(zip(paths, folder_labels(folder, part, paths), strict=True))


def drawn(
    pool: list[tuple[str, str]], count: int, seed: int
) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Return the images that are drawn, and the others."""
    _, labels = np.unique([label for _, label in pool], return_inverse=True)
    at = set(draw_shots([path for path, _ in pool], labels.astype(np.int64), count, seed).tolist())
    return [pool[i] for i in sorted(at)], [one for i, one in enumerate(pool) if i not in at]


def frequencies(chosen: Chosen, wanted: dict[str, int]) -> dict[str, Any]:
    """Return how often each class occurs in each part, and which have fewer images than were asked for."""
    names = sorted({label for images in chosen.values() for _, label in images})
    place = {name: row for row, name in enumerate(names)}
    told: dict[str, Any] = {}
    for part, images in chosen.items():
        mix = ClassMix.of(np.array([place[label] for _, label in images], np.int64), len(names))
        order = np.argsort(mix.counts, kind="stable")
        told[part] = mix.to_dict() | {
            "balanced": mix.balanced,
            "words": mix.words(),
            "rarest": {names[i]: int(mix.counts[i]) for i in order[:3]},
            "most_frequent": {names[i]: int(mix.counts[i]) for i in order[::-1][:3]},
        }
        if part in wanted:
            fewer = {name: int(n) for name, n in zip(names, mix.counts, strict=True) if n < wanted[part]}
            told[part]["classes_with_fewer"] = fewer
    return {"parts": told}


def lines(told: dict[str, Any], folder: Path, out: Path) -> list[str]:
    """Return what was drawn in words."""
    found: list[str] = []
    for part, mix in told["parts"].items():
        found.append(f"{part}: {counted(mix['images'], 'image')}, {mix['words']}")
        fewer = [f"{name} ({n})" for name, n in mix.get("classes_with_fewer", {}).items()]
        if fewer:
            classes = counted(len(fewer), "class has", "classes have")
            found.append(f"  {classes} fewer than asked for: {some_of(fewer)}")
        if not mix["balanced"]:
            ends = [
                some_of([f"{name} {n}" for name, n in mix[key].items()])
                for key in ("rarest", "most_frequent")
            ]
            found.append(f"  imbalanced: fewest {ends[0]}; most {ends[1]}")
    if not told["parts"]["test"]["balanced"]:
        found.append(
            "  plain accuracy follows the frequent classes: look at the mean per class, too, and with care at"
            " heads that assume equally frequent classes"
        )
    found.append(f"table: {out}; in a recipe: --set data.root={folder} --set data.split={out.absolute()}")
    return found
