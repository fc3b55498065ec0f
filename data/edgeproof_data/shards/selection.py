"""Samples of shards as a table `path,part,label` names them: what somebody chose, with whatever tool."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from edgeproof_configs.errors import DataError
from edgeproof_data.paths import counted, some_of
from edgeproof_data.sets import SPLITS, SplitName
from edgeproof_data.shards.samples import Samples
from edgeproof_data.split_table import read_rows


def chosen_samples(file: Path, samples: Samples, *, labelled: bool) -> dict[SplitName, Samples]:
    """Return the samples of each part that a table names, in the order of the shards.

    Args:
        file: table of `SHARD/MEMBER`, part and label.
        samples: of all shards.
        labelled: take the labels of the table.

    Raises:
        DataError: the table cannot be read, names what is not there, or a row lacks a label.
    """
    rows: dict[str, tuple[SplitName, str]] = {}
    for path, part, label in read_rows(file, SPLITS, "image"):
        rows[path] = part, label
    absent = sorted(set(rows) - set(samples.paths))
    if absent:
        raise DataError(
            f"{counted(len(absent), 'image')} of this table in none of the shards: {some_of(absent)}",
            where=file,
            fix="paths are SHARD/MEMBER, as `data export` writes them",
        )
    unnamed = [path for path, (_, label) in rows.items() if labelled and not label]
    if unnamed:
        raise DataError(
            f"{counted(len(unnamed), 'image')} of this table without a label: {some_of(unnamed)}",
            where=file,
            fix="add them, or set data.labels=none",
        )
    places: dict[SplitName, list[int]] = {}
    for place, path in enumerate(samples.paths):
        if path in rows:
            places.setdefault(rows[path][0], []).append(place)
    return {part: _subset(samples, at, rows if labelled else None) for part, at in places.items()}


def _subset(samples: Samples, at: list[int], rows: Mapping[str, tuple[str, str]] | None) -> Samples:
    paths = [samples.paths[place] for place in at]
    captions = samples.captions
    return replace(
        samples,
        paths=paths,
        members=samples.members[np.array(at, np.int64)],
        labels=None if rows is None else [rows[path][1] for path in paths],
        captions=None if captions is None else [captions[place] for place in at],
        remarks=[],
    )
