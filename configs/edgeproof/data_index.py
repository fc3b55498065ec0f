"""`data index`: make a collection of images searchable."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from edgeproof.teacher_choice import TeacherChoice
from edgeproof_configs.errors import UsageError
from edgeproof_data.check import Corrupt, usable
from edgeproof_data.folders import IMAGE_SUFFIXES, list_images
from edgeproof_data.paths import counted, some_of
from edgeproof_data.search.collection import EMBEDDINGS, Collection, IndexChoice, finish_collection
from edgeproof_data.search.published import Published, is_published, take_in
from edgeproof_data.search.service import is_address
from edgeproof_data.sets import NO_LABEL, ImageSet, unlabelled

INDEX_CHOICES: dict[str, IndexChoice] = {"auto": "auto", "exact": "exact", "ivf": "ivf", "hnsw": "hnsw"}


def make_index(
    images: Path,
    out: Path,
    *,
    teacher: TeacherChoice,
    index: str,
    batch_size: int,
    workers: int,
    as_json: bool,
) -> int:
    """Embed a collection, index it, say what there is, and return 0. What was embedded before stays.

    Args:
        images: a folder of images, of tar shards, or of published embeddings with parquet tables.
        out: of the collection.
        teacher: who embeds images; none for published embeddings.
        index: `auto`, `exact`, `ivf` or `hnsw`.
        batch_size: images a forward pass.
        workers: processes that decode.
        as_json: print JSON.

    Raises:
        UsageError: there is no such folder, or a teacher is missing or has no effect.
        DataError: no image can be taken in.
    """
    if not images.is_dir():
        raise UsageError("there is no such folder", where=images, fix="correct the path")
    choice = INDEX_CHOICES.get(index)
    if choice is None:
        raise UsageError(f"unknown index '{index}'", fix=f"one of {', '.join(INDEX_CHOICES)}")
    if is_published(images):
        if teacher.given:
            raise UsageError("these embeddings are computed already: a teacher has no effect", where=images)
        found, bad = _published(images, out, choice)
    else:
        found, bad = _folder(images, out, choice, teacher, batch_size, workers)
    told = told_of(found) | {"corrupt": bad}
    print(json.dumps(told, indent=2, ensure_ascii=False) if as_json else "\n".join(lines(found, bad)))
    return 0


def told_of(found: Collection) -> dict[str, Any]:
    """Return what a collection is as plain data."""
    size = sum(file.stat().st_size for file in found.folder.rglob("*") if file.is_file())
    return {
        "collection": str(found.folder),
        "images": len(found),
        "dim": found.cache.dim,
        "index": None if found.figures is None else found.figures.to_dict(),
        "safety_tags": found.safety is not None,
        "left_out": found.left_out,
        "size_bytes": size,
    }


def lines(found: Collection, bad: list[Corrupt]) -> list[str]:
    """Return the same in words."""
    told = [f"{counted(len(found), 'image')}, {found.cache.dim} values each: {found.folder}"]
    for reason, count in sorted(found.left_out.items()):
        told.append(f"  left out: {count}, {reason}")
    if bad:
        told.append(f"  {some_of([f'{path} ({reason})' for path, reason in bad])}")
    if found.figures is None:
        told.append("searched exactly")
    else:
        figures = found.figures
        told.append(
            f"index {figures.kind}: finds {figures.recall:.1%} of the exact 10 nearest of {figures.asked}"
            f" images, {figures.size_bytes:,} bytes"
        )
    return told


def images_below(root: Path) -> ImageSet:
    """Return the images of a folder, or of the tar shards in it where it holds any.

    Raises:
        UsageError: it holds both.
    """
    if not any(root.glob("*.tar")):
        return unlabelled(root, list_images(root))
    if any(file.name.lower().endswith(IMAGE_SUFFIXES) for file in root.rglob("*")):
        raise UsageError(
            "this folder holds shards and photos", where=root, fix="index each in a folder of its own"
        )
    from edgeproof_data.shards.index import index_of
    from edgeproof_data.shards.listing import list_shards
    from edgeproof_data.shards.members import Shards, ShardSet
    from edgeproof_data.shards.samples import Wanted, read_samples
    from edgeproof_deploy.runtime.cache_folder import cache_folder

    files = [Path(shard) for shard in list_shards("*.tar", str(root))]
    indices = [index_of(file, cache_folder("webdataset") / "indices") for file in files]
    shards = Shards(indices)
    found = read_samples([file.name for file in files], indices, shards, 0, Wanted(None, None, None))
    labels = np.full(len(found.paths), NO_LABEL, np.int64)
    return ShardSet(root, tuple(found.paths), labels, (), shards, found.members)


def _published(images: Path, out: Path, index: IndexChoice) -> tuple[Collection, list[Corrupt]]:
    cache, safety, left_out = take_in(Published.open(images), out / EMBEDDINGS)
    addresses = any(map(is_address, cache.paths))
    found = finish_collection(
        out,
        cache,
        place="url" if addresses else "path",
        root=None if addresses else images.absolute(),
        index=index,
        safety=safety,
        left_out=dict(left_out),
    )
    return found, []


def _folder(
    images: Path, out: Path, index: IndexChoice, choice: TeacherChoice, batch_size: int, workers: int
) -> tuple[Collection, list[Corrupt]]:
    root = images.absolute()
    found = images_below(root)
    teacher = choice.build(root)
    from edgeproof_train.embed import embed_split

    good, bad = usable(found)
    if not len(good):
        raise UsageError("no image here can be read", where=images)
    cache = embed_split(teacher, good, out / EMBEDDINGS, batch_size=batch_size, workers=workers)
    reasons = dict(Counter(reason for _, reason in bad))
    return finish_collection(out, cache, place="path", root=root, index=index, left_out=reasons), bad
