"""`data check`: look at every image of a folder before training on it."""

from __future__ import annotations

import json
from pathlib import Path

from edgeproof_configs.errors import UsageError
from edgeproof_data.check import scan
from edgeproof_data.folders import list_images
from edgeproof_data.sets import SPLITS, ImageSet, unlabelled


def check(folder: Path, *, smallest_side: int, near: bool, as_json: bool) -> int:
    """Print what is wrong with the images below a folder; return 0 if nothing is, else 1.

    Args:
        folder: where the images lie; images that are in two of `train`, `val` and `test` are told apart.
        smallest_side: pixels that the shorter side of an image must have.
        near: whether to look for images that look the same, too.
        as_json: print JSON.

    Raises:
        UsageError: this is no folder.
        DataError: there is no image in it.
    """
    if not folder.is_dir():
        raise UsageError("there is no such folder", where=folder)
    report = scan(parts_of(folder), smallest_side=smallest_side, near=near)
    print(
        json.dumps(report.to_dict(), indent=2, ensure_ascii=False) if as_json else "\n".join(report.lines())
    )
    return 0 if report.clean else 1


def parts_of(folder: Path) -> dict[str, ImageSet]:
    """Return the images of each part of a data set, and those outside of the parts, by relative path."""
    parts: dict[str, list[str]] = {}
    for path in list_images(folder):
        top = path.split("/")[0]
        parts.setdefault(top if top in SPLITS else "", []).append(path)
    return {name: unlabelled(folder, paths) for name, paths in parts.items()}
