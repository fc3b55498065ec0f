"""Writing a data set as tar shards, the same bytes whenever it is written, and going on after a kill."""

from __future__ import annotations

import hashlib
import io
import json
import math
import tarfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeproof_configs.errors import UsageError
from edgeproof_configs.files import (
    atomic_open,
    digest_of,
    half_written,
    read_json,
    write_json,
    write_text,
)
from edgeproof_configs.progress import progress
from edgeproof_data.exchange.columnar import FloatName, write_table
from edgeproof_data.exchange.parts import Part
from edgeproof_data.sets import ImageSet
from edgeproof_data.splitting import hash_order

PLAN = "shards.json"
CLASSES = "classes.txt"
KEY_CHARACTERS = 24
"""Of the sha256 of an image, in hex: 96 bits. Among 5e9 images two meet with a chance of 2e-10."""


def write_shards(
    folder: Path, parts: Sequence[Part], per_shard: int, *, seed: int = 0, dtype: FloatName = "float16"
) -> list[Path]:
    """Write `PART-000000.tar` and so on, with `per_shard` samples each, and return them.

    A sample has the image as it is, `.json` with path, label and captions, `.txt` with the first caption and
    `.cls` with the number of its class in `classes.txt`. Its key is the beginning of the image's sha256, with
    a number behind it where an image is there again. Samples lie in the order of a hash of their paths, so
    that whoever reads shards one after the other meets all classes. Where there are embeddings
    `PART-000000.parquet` beside a shard has them in the order of its samples; its paths are those of the
    members.

    Shards that are there are kept: each is written under another name first.

    Args:
        folder: for the shards.
        parts: of one data set.
        per_shard: samples a shard; the last one of a part may have fewer.
        seed: another one gives another order.
        dtype: of the embeddings.

    Raises:
        UsageError: the folder holds something else.
        DataError: an image cannot be read.
        EdgeproofError: the disk is full.
    """
    if per_shard < 1:
        raise ValueError(f"expected at least one sample a shard, got {per_shard}")
    _check_plan(folder, parts, per_shard, seed, dtype)
    classes = parts[0].images.class_names
    if classes:
        write_text(folder / CLASSES, "".join(f"{name}\n" for name in classes))
    written = []
    total = sum(math.ceil(len(part.images) / per_shard) for part in parts)
    with progress("write", total, "shards") as shown:
        for part in parts:
            order = hash_order(part.images.paths, seed)
            for number, start in enumerate(range(0, len(order), per_shard)):
                file = folder / f"{part.name}-{number:06d}.tar"
                _write_one(file, part, order[start : start + per_shard], dtype)
                written.append(file)
                shown.advance()
    _remove_leftovers(folder, written)
    return written


def _remove_leftovers(folder: Path, written: Sequence[Path]) -> None:
    """Delete the halves of shards and tables that killed writings left under other names."""
    names = [PLAN, CLASSES, *(name for file in written for name in (file.name, f"{file.stem}.parquet"))]
    for file in folder.glob(".*"):
        if half_written(file, *names):
            file.unlink()


def _check_plan(folder: Path, parts: Sequence[Part], per_shard: int, seed: int, dtype: str) -> None:
    """Refuse a folder that holds other shards, or anything that no earlier writing left."""
    contents = [
        [part.name, part.dim, part.embedded_by, part.captions, *_told_of(part.images)] for part in parts
    ]
    plan = {
        "format": 1,
        "contents": digest_of(contents),
        "per_shard": per_shard,
        "seed": seed,
        "dtype": dtype,
    }
    file = folder / PLAN
    if file.exists():
        if read_json(file) != plan:
            raise UsageError("this folder holds other shards", where=folder, fix="name a new folder")
    elif folder.is_file():
        raise UsageError(
            "shards are written into a folder, this is a file", where=folder, fix="name a new folder"
        )
    elif folder.exists() and any(not half_written(one, PLAN) for one in folder.iterdir()):
        raise UsageError("this folder holds something else", where=folder, fix="name a new folder")
    else:
        write_json(file, plan)


def _told_of(images: ImageSet) -> list[Any]:
    return [images.paths, images.stats().tolist(), images.labels.tolist(), images.class_names]


def _write_one(file: Path, part: Part, chosen: NDArray[np.int64], dtype: FloatName) -> None:
    table = file.with_suffix(".parquet")
    if file.exists() and (part.embeddings is None or table.exists()):
        return
    names: list[str] = []
    seen: dict[str, int] = {}
    with (
        atomic_open(file) as handle,
        tarfile.open(fileobj=handle, mode="w", format=tarfile.USTAR_FORMAT) as tar,
    ):
        for index in chosen.tolist():
            data = part.images.read(index)
            digest = hashlib.sha256(data).hexdigest()[:KEY_CHARACTERS]
            seen[digest] = seen.get(digest, 0) + 1
            key = digest if seen[digest] == 1 else f"{digest}-{seen[digest]}"
            suffix = PurePosixPath(part.images.paths[index]).suffix.lower()
            names.append(f"{file.name}/{key}{suffix}")
            _add(tar, f"{key}{suffix}", data)
            for other, text in _texts(part, index).items():
                _add(tar, f"{key}.{other}", text.encode())
    if part.embeddings is not None:
        rows = part.embeddings(chosen)
        images = part.images.subset(chosen)
        labelled = ImageSet(file.parent, tuple(names), images.labels, images.class_names)
        captions = None if part.captions is None else [part.captions[index] for index in chosen.tolist()]
        write_table(table, [Part(part.name, labelled, captions, part.dim, lambda at: rows[at])], dtype)


def _texts(part: Part, index: int) -> dict[str, str]:
    label, captions = part.label(index), part.caption(index)
    told = {"path": part.images.paths[index], "label": label, "captions": captions}
    texts = {"json": json.dumps(told, ensure_ascii=False)}
    if captions:
        texts["txt"] = captions[0]
    if label is not None:
        texts["cls"] = str(int(part.images.labels[index]))
    return texts


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    header = tarfile.TarInfo(name)
    header.size, header.mode = len(data), 0o644
    tar.addfile(header, io.BytesIO(data))
