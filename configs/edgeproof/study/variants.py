"""The runs of a study: every combination of what is varied, each trained in a folder of its own."""

from __future__ import annotations

import itertools
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edgeproof.ship import ship
from edgeproof_configs.errors import UsageError
from edgeproof_configs.run import RunDir

TAKEN = ("teacher", "curate", "embed")
"""Stages that a run takes over from an earlier one of the study: they are redone where they do not fit."""
NOT_TAKEN = "pixels"
SEED, SEEN = "seed", "seen"


@dataclass(frozen=True)
class Variant:
    """One combination.

    Attributes:
        settings: what makes it different, by name: keys of the recipe, `seed`, `seen`.
        overrides: `key=value` settings that bring it about.
    """

    settings: dict[str, str] = field(default_factory=dict)
    overrides: tuple[str, ...] = ()

    @property
    def folder(self) -> str:
        """Name of its folder, `student.model=resnet18,seed=1`; empty for the recipe as it is."""
        return re.sub(r"[^\w.=,+-]+", "-", ",".join(f"{key}={value}" for key, value in self.settings.items()))

    @property
    def name(self) -> str:
        """What it is called in tables; without the seed, over which means are taken."""
        shown = [f"{key}={value}" for key, value in self.settings.items() if key != SEED]
        return ", ".join(shown) or "as it is"


def variants_of(
    varied: Sequence[tuple[str, Sequence[str]]],
    *,
    seeds: int | None = None,
    seen: Sequence[int] = (),
    class_names: Sequence[str] = (),
) -> list[Variant]:
    """Return every combination of values, in the order in which they are given.

    Args:
        varied: keys of the recipe and the values of each.
        seeds: how many values `train.seed` takes, from 0.
        seen: how many classes are trained on. Which ones is drawn by the seed; the fewer are among the more.
        class_names: all of them, where `seen` is given.

    Raises:
        UsageError: a key is given twice, or there are not so many classes.
    """
    keys = [key for key, _ in varied]
    twice = next((key for key in keys if keys.count(key) > 1), None)
    if twice is not None or (seeds and "train.seed" in keys) or (seen and "data.unseen" in keys):
        raise UsageError(
            f"--vary {twice or ''}: what is varied twice has no value", fix="give one list a key"
        )
    wrong = next((count for count in seen if not 1 <= count < len(class_names)), None)
    if wrong is not None:
        raise UsageError(
            f"--seen {wrong}: the data have {len(class_names)} classes, and some must stay unseen",
            fix=f"choose 1 to {len(class_names) - 1}",
        )
    found = []
    counts: Sequence[int | None] = seen or [None]
    drawn = range(seeds) if seeds else [None]
    for values in itertools.product(*(values for _, values in varied)):
        for count, seed in itertools.product(counts, drawn):
            settings = dict(zip(keys, values, strict=True))
            overrides = [f"{key}={value}" for key, value in settings.items()]
            if count is not None:
                settings[SEEN] = str(count)
                overrides.append(f"data.unseen={json.dumps(unseen_of(class_names, count, seed or 0))}")
            if seed is not None:
                settings[SEED] = str(seed)
                overrides.append(f"train.seed={seed}")
            found.append(Variant(settings, tuple(overrides)))
    return found


def unseen_of(class_names: Sequence[str], seen: int, seed: int) -> list[str]:
    """Return the classes that are held out where `seen` others are trained on."""
    order = np.random.default_rng(seed).permutation(len(class_names))
    return sorted(class_names[int(place)] for place in order[seen:])


def train_variant(
    recipe: str,
    variant: Variant,
    base: Path,
    overrides: Sequence[str],
    device: str | None,
    donor: Path | None,
) -> RunDir:
    """Train one combination, as far as that has not been done, and return its run.

    Args:
        recipe: a file or the name of a shipped recipe.
        variant: the combination.
        base: the run that the study belongs to; the recipe as it is trains here.
        overrides: `key=value` settings of all combinations.
        device: as for `ship`.
        donor: a run of the study whose teacher and stored embeddings are used as far as they fit.
    """
    path = base / "study" / variant.folder if variant.folder else base
    if donor is not None and not path.exists():
        take_over(donor, path)
    ship(recipe, overrides=[*overrides, *variant.overrides], run=path, until="train", device=device)
    return RunDir(path)


def take_over(donor: Path, path: Path) -> None:
    """Copy what a teacher has said to another run; whether it fits is looked at there."""
    for stage in TAKEN:
        if (donor / stage).is_dir():
            shutil.copytree(donor / stage, path / stage, ignore=shutil.ignore_patterns(NOT_TAKEN))


def parse_varied(given: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Return keys and values of `student.model=resnet18,mobilenetv2_100`; `;` parts values that have commas.

    Raises:
        UsageError: a key or a value is missing.
    """
    found = []
    for text in given:
        key, _, listed = text.partition("=")
        values = [value.strip() for value in listed.split(";" if ";" in listed else ",")]
        if not key.strip() or not all(values):
            raise UsageError(f"--vary {text}: expected key=value,value", fix="--vary student.model=A,B")
        found.append((key.strip(), values))
    return found


def numbers_of(text: str | None, option: str) -> tuple[int, ...]:
    """Return `1,2,4` as numbers, in rising order, each once.

    Raises:
        UsageError: one is no positive whole number.
    """
    try:
        found = sorted({int(word) for word in (text or "").split(",") if word.strip()})
    except ValueError:
        found = [0]
    if any(number < 1 for number in found) or (text is not None and not found):
        raise UsageError(f"{option} {text}: expected whole numbers such as 1,2,4")
    return tuple(found)


def constant(settings: Sequence[Mapping[str, Any]], key: str) -> bool:
    """Whether a setting has one value only."""
    return len({str(one.get(key)) for one in settings}) < 2
