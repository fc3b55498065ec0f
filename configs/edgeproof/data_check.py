"""`data check`: look at every image of a folder before training on it."""

from __future__ import annotations

import json
from pathlib import Path

from edgeproof_configs.errors import UsageError
from edgeproof_data.alike import LEAST_COSINE
from edgeproof_data.check import ScanReport, scan
from edgeproof_data.cleaning.likeness import Embedded, Likeness, likeness
from edgeproof_data.folders import IMAGE_SUFFIXES, list_images
from edgeproof_data.object_check import ObjectReport, objects_below, views_by_part, without_own_likeness
from edgeproof_data.paths import counted, some_of
from edgeproof_data.search.collection import Collection
from edgeproof_data.sets import SPLITS, ImageSet, unlabelled
from edgeproof_data.shards.folder import shard_parts
from edgeproof_deploy.runtime.cache_folder import cache_folder


def check(
    folder: Path,
    *,
    smallest_side: int,
    near: bool,
    as_json: bool,
    views: int | None = None,
    collection: Path | None = None,
    alike: float = LEAST_COSINE,
) -> int:
    """Print what is wrong with the images below a folder; return 0 if nothing is, else 1.

    Args:
        folder: where the images lie; images that are in two of `train`, `val` and `test` are told apart.
        smallest_side: pixels that the shorter side of an image must have.
        near: whether to look for images that look the same, too.
        as_json: print JSON.
        views: how many views each object is to have; where it is not given, folders of several images that
            lie as objects do are looked at as objects, too.
        collection: of `data index`, with the embeddings of these images, by which those that mean the same
            are found.
        alike: cosine from which they do.

    Raises:
        UsageError: this is no folder, or it holds shards and an option does not fit them.
        DataError: there is no image in it, a shard is cut or damaged, objects are asked for and an image is
            none's view, or a good image has no embedding.
    """
    if not folder.is_dir():
        raise UsageError("there is no such folder", where=folder, fix="correct the path")
    parts, remarks = shards_of(folder, views)
    found = None if parts else objects_below(folder, views)
    if not parts:
        parts = parts_of(folder) if found is None else views_by_part(folder, found)
    report = scan(parts, smallest_side=smallest_side, near=near)
    told, lines, short = report.to_dict(), report.lines() + [f"  {one}" for one in remarks], bool(remarks)
    told |= {"left_out": remarks} if remarks else {}
    if found is not None:
        report, objects = without_own_likeness(report, found), ObjectReport.of(found, views)
        told, lines = report.to_dict() | {"objects": objects.to_dict()}, report.lines() + objects.lines()
        short = bool(objects.too_few)
    if collection is not None:
        same = same_meaning(folder, parts, report, collection, alike)
        told |= {"alike": same.groups, "alike_leaks": same.leaks}
        told["counts"] |= {"alike": len(same.groups), "alike_leaks": len(same.leaks)}
        lines += likeness_lines(same)
        short |= bool(same.groups)
    print(json.dumps(told, indent=2, ensure_ascii=False) if as_json else "\n".join(lines))
    return 0 if report.clean and not short else 1


def shards_of(folder: Path, views: int | None) -> tuple[dict[str, ImageSet], list[str]]:
    """Return the images of the tar shards in a folder by part, and what is left out of them; none of photos.

    Raises:
        UsageError: there are shards, and views are asked for or there are photos as well.
        DataError: a shard is cut or damaged.
    """
    if not any(folder.glob("*.tar")):
        return {}, []
    if views is not None:
        raise UsageError("--views has no effect on shards", where=folder, fix="leave it away")
    parts, remarks = shard_parts(folder, cache_folder("webdataset", "indices"))
    if any(file.name.lower().endswith(IMAGE_SUFFIXES) for file in folder.rglob("*")):
        raise UsageError(
            "this folder holds shards and photos", where=folder, fix="check each in a folder of its own"
        )
    return dict(parts), remarks


def same_meaning(
    folder: Path, parts: dict[str, ImageSet], report: ScanReport, collection: Path, alike: float
) -> Likeness:
    """Return which of the readable images mean the same."""
    bad = {path for path, _ in report.corrupt} | set(report.empty)
    readable = {part: [path for path in found.paths if path not in bad] for part, found in parts.items()}
    return likeness(Embedded(Collection.open(collection), folder), readable, alike)


def likeness_lines(same: Likeness) -> list[str]:
    """Return what means the same in words."""
    shown = []
    for groups, what, advice in (
        (same.groups, "with the same meaning", "edgeproof data filter keeps one of each"),
        (same.leaks, "with the same meaning in several parts", "remove them from train"),
    ):
        if groups:
            examples = some_of([" = ".join(group[:3]) for group in groups])
            shown += [f"  {counted(len(groups), 'group')} {what}: {examples}", f"    {advice}"]
    return shown


def parts_of(folder: Path) -> dict[str, ImageSet]:
    """Return the images of each part of a data set, and those outside of the parts, by relative path."""
    parts: dict[str, list[str]] = {}
    for path in list_images(folder):
        top = path.split("/")[0]
        parts.setdefault(top if top in SPLITS else "", []).append(path)
    return {name: unlabelled(folder, paths) for name, paths in parts.items()}
