"""Finding the images below a folder."""

from __future__ import annotations

import os
from pathlib import Path

from edgeproof_configs.errors import DataError
from edgeproof_data.paths import counted, some_of

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")


def list_images(folder: Path) -> list[str]:
    """Return the images below a folder at any depth, as sorted posix paths relative to it.

    An image is a file with one of `IMAGE_SUFFIXES` in any case. Hidden files and folders are left out. Links
    are followed; a folder that is met again inside itself is not entered a second time.

    Raises:
        DataError: the folder is missing, unreadable or holds no image; an image is a broken link; a name is
            not UTF-8 or contains a line break, so that no index could hold it.
    """
    if not folder.is_dir():
        raise DataError(
            "this is not a folder of images" if folder.exists() else "there is no such folder",
            where=folder.absolute(),
            fix="correct data.root, data.train, data.val or data.test",
        )
    found: list[str] = []
    broken: list[str] = []
    _walk(folder, "", (), found, broken)
    if broken:
        raise DataError(
            f"{counted(len(broken), 'image')} cannot be opened (broken link): {some_of(broken)}",
            where=folder.absolute(),
            fix="restore the files or remove the links",
        )
    if not found:
        raise DataError(
            "this folder holds no image",
            where=folder.absolute(),
            fix=f"expected files that end in {', '.join(IMAGE_SUFFIXES)} (any case), at any depth",
        )
    _check_names(folder, found)
    return sorted(found)


def class_folders(folder: Path) -> list[str]:
    """Return the names of the folders directly below `folder`, sorted, hidden ones left out."""
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))


def _walk(
    folder: Path, prefix: str, above: tuple[tuple[int, int], ...], found: list[str], broken: list[str]
) -> None:
    """Append the images below a folder; `above` identifies the folders that lead to it."""
    stat = folder.stat()
    here = (stat.st_dev, stat.st_ino)
    if here in above:
        return
    try:
        with os.scandir(folder) as scan:
            entries = list(scan)
    except PermissionError as error:
        raise DataError("this folder may not be read", where=folder, fix="change its permissions") from error
    for entry in entries:
        if entry.name.startswith("."):
            continue
        # A link to itself makes DirEntry.is_dir raise, where os.path.isdir says no.
        if os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir():
            _walk(folder / entry.name, f"{prefix}{entry.name}/", (*above, here), found, broken)
        elif entry.name.lower().endswith(IMAGE_SUFFIXES):
            (found if os.path.isfile(entry.path) else broken).append(prefix + entry.name)


def _check_names(folder: Path, paths: list[str]) -> None:
    odd = [ascii(path) for path in paths if not _storable(path)]
    if odd:
        raise DataError(
            f"{counted(len(odd), 'file name')} not UTF-8 or with a line break: {some_of(odd)}",
            where=folder.absolute(),
            fix="rename the files",
        )


def _storable(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return "\n" not in path and "\r" not in path
