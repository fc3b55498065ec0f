"""Looking for images that cannot be used, and for images that are there twice."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from edgeproof_configs.progress import progress
from edgeproof_data.near import near_groups, perceptual_hash
from edgeproof_data.paths import counted, some_of
from edgeproof_data.prefetch import in_order
from edgeproof_data.sets import ImageSet
from edgeproof_deploy.runtime.preprocess import ImageError, open_image

SMALLEST_SIDE = 16
EMPTY = "the file is empty"
Corrupt = tuple[str, str]
"""Path and reason."""


class Finding(NamedTuple):
    """What one file is."""

    reason: str | None
    shorter_side: int
    sha256: str
    perceptual: int


@dataclass(frozen=True)
class ScanReport:
    """What was found in some images. Every list is in the order of the images.

    Attributes:
        checked: number of files.
        ok: number of files that are readable images of sufficient size.
        corrupt: path and reason of files that are no readable image.
        empty: files without a byte.
        too_small: path and shorter side of images that have fewer pixels than was asked for.
        duplicates: groups of files with the same bytes.
        leaks: those of the groups that are in more than one part, such as train and test.
        near_duplicates: groups of different files that look the same; None where it was not looked for.
    """

    checked: int
    ok: int
    corrupt: list[Corrupt]
    empty: list[str]
    too_small: list[tuple[str, int]]
    duplicates: list[list[str]]
    leaks: list[list[str]]
    near_duplicates: list[list[str]] | None

    @property
    def clean(self) -> bool:
        """Whether nothing at all was found."""
        return self.ok == self.checked and not self.duplicates and not self.near_duplicates

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain data, with counts."""
        lists = {key: value for key, value in asdict(self).items() if isinstance(value, list)}
        counts = {"checked": self.checked, "ok": self.ok} | {key: len(value) for key, value in lists.items()}
        return {"counts": counts, **lists}

    def lines(self) -> list[str]:
        """Return the report for a terminal: counts with examples."""
        lines = [f"{counted(self.checked, 'image')} checked, {self.ok} good"]
        corrupt = [f"{path} ({reason})" for path, reason in self.corrupt]
        small = [f"{path} ({side} px)" for path, side in self.too_small]
        groups, leaks = _equations(self.duplicates), _equations(self.leaks)
        alike = _equations(self.near_duplicates or [])
        found = [
            (corrupt, f"{len(corrupt)} corrupt", "every run leaves them out; restore or delete them"),
            (self.empty, f"{len(self.empty)} empty", "every run leaves them out; restore or delete them"),
            (small, f"{len(small)} too small", "replace or delete them"),
            (groups, f"{counted(len(groups), 'group')} of identical files", "keep one of each"),
            (leaks, f"{counted(len(leaks), 'group')} in several parts", "remove them from train"),
            (alike, f"{counted(len(alike), 'group')} that look the same", "look at them"),
        ]
        for items, what, advice in found:
            if items:
                lines += [f"  {what}: {some_of(items)}", f"    {advice}"]
        return lines


def scan(
    images: ImageSet | Sequence[Path] | Mapping[str, ImageSet],
    *,
    smallest_side: int = SMALLEST_SIDE,
    near: bool = False,
    workers: int | None = None,
) -> ScanReport:
    """Read every image and report what is wrong. A broken file never stops it.

    Args:
        images: a set, some files, or the parts of a data set by name.
        smallest_side: pixels that the shorter side of an image must have.
        near: whether to look for images that look the same, too (needs `imagehash`).
        workers: threads; by default one a core.

    Raises:
        MissingPackageError: `near` is asked for and `imagehash` is not installed.
    """
    parts = {"": images} if not isinstance(images, Mapping) else images
    names, part_of, files = _listed(parts)
    found = _look_at(files, near, workers)
    good = [finding.reason is None for finding in found]
    small = [ok and finding.shorter_side < smallest_side for ok, finding in zip(good, found, strict=True)]
    groups = _same_bytes(found)
    shared = [group for group in groups if len({part_of[index] for index in group}) > 1]
    first = {group[0] for group in groups} | (set(range(len(found))) - {i for group in groups for i in group})
    distinct = [index for index in sorted(first) if good[index]]
    hashes = np.array([found[index].perceptual for index in distinct], np.uint64)
    alike = [[distinct[place] for place in group] for group in near_groups(hashes)] if near else None
    broken = [(name, finding.reason) for name, finding in zip(names, found, strict=True) if finding.reason]
    return ScanReport(
        checked=len(files),
        ok=sum(good) - sum(small),
        corrupt=[(name, reason) for name, reason in broken if reason != EMPTY],
        empty=[name for name, reason in broken if reason == EMPTY],
        too_small=[(names[i], found[i].shorter_side) for i in np.flatnonzero(small).tolist()],
        duplicates=[[names[index] for index in group] for group in groups],
        leaks=[[names[index] for index in group] for group in shared],
        near_duplicates=None if alike is None else [[names[index] for index in group] for group in alike],
    )


def usable(images: ImageSet, workers: int | None = None) -> tuple[ImageSet, list[Corrupt]]:
    """Return the images that can be read, and path and reason of the others.

    Args:
        images: what to read.
        workers: threads; by default one a core.
    """
    files = [images.file(index) for index in range(len(images))]
    found = _look_at(files, False, workers)
    good = np.flatnonzero([finding.reason is None for finding in found])
    corrupt = [(path, item.reason) for path, item in zip(images.paths, found, strict=True) if item.reason]
    return (images if not corrupt else images.subset(good)), corrupt


def _listed(
    parts: Mapping[str, ImageSet | Sequence[Path]],
) -> tuple[list[str], list[str], list[Path]]:
    """Return name, part and place of each image."""
    names: list[str] = []
    part_of: list[str] = []
    files: list[Path] = []
    for part, images in parts.items():
        if isinstance(images, ImageSet):
            names += images.paths
            files += [images.file(index) for index in range(len(images))]
        else:
            names += [str(file) for file in images]
            files += images
        part_of += [part] * len(images)
    return names, part_of, files


def _look_at(files: Sequence[Path], near: bool, workers: int | None) -> list[Finding]:
    found = []
    with progress("check", len(files), "images") as shown:
        for finding in in_order(lambda file: _examine(file, near), files, workers or os.cpu_count() or 1, 16):
            found.append(finding)
            shown.advance()
    return found


def _examine(file: Path, near: bool) -> Finding:
    try:
        data = file.read_bytes()
    except OSError as error:
        return Finding(f"cannot be read: {error.strerror}", 0, "", 0)
    if not data:
        return Finding(EMPTY, 0, "", 0)
    sha256 = hashlib.sha256(data).hexdigest()
    try:
        image = open_image(data)
    except ImageError as error:
        return Finding(error.reason, 0, sha256, 0)
    return Finding(None, min(image.size), sha256, perceptual_hash(image) if near else 0)


def _same_bytes(found: Sequence[Finding]) -> list[list[int]]:
    groups: dict[str, list[int]] = {}
    for index, finding in enumerate(found):
        if finding.sha256:
            groups.setdefault(finding.sha256, []).append(index)
    return [group for group in groups.values() if len(group) > 1]


def _equations(groups: Sequence[Sequence[str]]) -> list[str]:
    return [
        " = ".join(group[:3]) + (f" = … ({len(group)} files)" if len(group) > 3 else "") for group in groups
    ]
