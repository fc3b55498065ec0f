"""A bundle on disk, a folder or one `.tar`: nothing in it is used before it was compared with the manifest.

The manifest lists size and sha256 of every file and carries a digest of itself. That finds damage and edits.
It is no signature: whoever can write a whole bundle can write a manifest that fits.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from edgeproof_deploy.runtime.errors import BundleError

if TYPE_CHECKING:
    import tarfile

MANIFEST = "manifest.json"
SCHEMA_VERSION = 1
LARGEST_MANIFEST_BYTES = 64_000_000
ENGINES_FOLDER, TEXT_FOLDER, SPECIALISTS_FOLDER = "engines", "text", "specialists"
LARGE_PLAN_BYTES = 32_000_000


class Files(ABC):
    """Read access to the files of a bundle by their relative posix names."""

    @abstractmethod
    def names(self) -> list[str]:
        """Return every file there is."""

    @abstractmethod
    def size(self, name: str) -> int:
        """Return a file's size in bytes; raises `BundleError` where it is missing or no plain file."""

    @abstractmethod
    def read(self, name: str) -> bytes:
        """Return a file's bytes."""


class FolderFiles(Files):
    """The files of a folder. Links are not followed."""

    def __init__(self, root: Path):
        self.root = root

    def names(self) -> list[str]:
        """Return every file below the folder."""
        found = (file for file in self.root.rglob("*") if file.is_symlink() or not file.is_dir())
        return sorted(file.relative_to(self.root).as_posix() for file in found)

    def size(self, name: str) -> int:
        """Return a file's size in bytes."""
        place = self.root
        try:
            for part in PurePosixPath(name).parts:
                place = place / part
                if place.is_symlink():
                    raise BundleError(name, "is a link, expected a plain file")
            if not place.is_file():
                raise BundleError(name, "is missing from the bundle")
            return place.stat().st_size
        except (OSError, ValueError) as error:
            # A name may be longer than the file system has them, or no text that it can write.
            raise BundleError(name, f"cannot be in a folder: {error}") from error

    def read(self, name: str) -> bytes:
        """Return a file's bytes."""
        self.size(name)
        return (self.root / name).read_bytes()


class TarFiles(Files):
    """The members of an uncompressed tar, read in place: nothing is ever extracted."""

    def __init__(self, path: Path):
        # A bundle is mostly a folder, and the module takes longer to import than a manifest to read.
        import tarfile

        self.path = path
        self._members: dict[str, tarfile.TarInfo] = {}
        try:
            with tarfile.open(path, "r:") as archive:
                members = archive.getmembers()
        except (tarfile.TarError, EOFError, ValueError) as error:
            raise BundleError(str(path), f"is not a readable tar: {error}") from error
        manifests = [m.name for m in members if PurePosixPath(m.name).name == MANIFEST]
        self._prefix = min((str(PurePosixPath(name).parent) for name in manifests), key=len, default=".")
        for member in members:
            if member.isdir():
                continue
            name = self._relative(member.name)
            if name in self._members:
                raise BundleError(name, "is in the tar twice")
            self._members[name] = member

    def _relative(self, name: str) -> str:
        parts = PurePosixPath(name).parts
        start = PurePosixPath(self._prefix).parts
        return str(PurePosixPath(*parts[len(start) :])) if parts[: len(start)] == start else name

    def names(self) -> list[str]:
        """Return every member that is not a folder."""
        return sorted(self._members)

    def size(self, name: str) -> int:
        """Return a member's size in bytes."""
        member = self._members.get(name)
        if member is None:
            raise BundleError(name, "is missing from the bundle")
        if not member.isreg():
            raise BundleError(name, "is a link or a device, expected a plain file")
        return member.size

    def read(self, name: str) -> bytes:
        """Return a member's bytes."""
        size = self.size(name)
        with self.path.open("rb") as handle:
            handle.seek(self._members[name].offset_data)
            return handle.read(size)


class Bundle:
    """A bundle whose manifest has been read and whose files all have their size.

    `read` compares a file's sha256 and gives its bytes; `verify` compares the files that were not read.

    Raises:
        BundleError: there is no bundle, or a file is missing, has another size, or lies outside it.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        if self.path.is_dir():
            self.files: Files = FolderFiles(self.path)
        elif self.path.is_file():
            self.files = TarFiles(self.path)
        else:
            raise BundleError(str(path), "there is no bundle (a folder or a .tar) of this name")
        self.manifest = self._read_manifest()
        self.listed = listed_files(self.manifest)
        self._checked: set[str] = set()
        for name, entry in self.listed.items():
            size = self.files.size(name)
            if size != entry["size"]:
                raise BundleError(name, f"was changed: {size} bytes, the manifest says {entry['size']}")

    def _read_manifest(self) -> dict[str, Any]:
        if MANIFEST not in self.files.names():
            raise BundleError(str(self.path), f"is not a bundle: it has no {MANIFEST}")
        if self.files.size(MANIFEST) > LARGEST_MANIFEST_BYTES:
            raise BundleError(MANIFEST, f"is larger than {LARGEST_MANIFEST_BYTES // 1_000_000} MB")
        try:
            manifest = json.loads(self.files.read(MANIFEST))
        except (ValueError, RecursionError) as error:
            raise BundleError(MANIFEST, f"is not JSON: {error}") from error
        if not isinstance(manifest, dict) or not isinstance(manifest.get("schema_version"), int):
            raise BundleError(MANIFEST, "is not the manifest of a bundle: it has no schema_version")
        if manifest["schema_version"] != SCHEMA_VERSION:
            version = manifest["schema_version"]
            raise BundleError(MANIFEST, f"has schema version {version}, this runtime reads {SCHEMA_VERSION}")
        if manifest.get("manifest_sha256") != manifest_digest(manifest):
            raise BundleError(MANIFEST, "was changed: it does not have its own digest")
        return manifest

    def read(self, name: str) -> bytes:
        """Return the bytes of a listed file.

        Raises:
            BundleError: the file is not in the manifest or was changed.
        """
        if name not in self.listed:
            raise BundleError(name, f"is not in the manifest of {self.path}")
        data = self.files.read(name)
        if hashlib.sha256(data).hexdigest() != self.listed[name]["sha256"]:
            raise BundleError(name, "was changed: its sha256 is not the manifest's")
        self._checked.add(name)
        return data

    def read_json(self, name: str) -> Any:
        """Return a listed JSON file as plain data."""
        try:
            return json.loads(self.read(name))
        except (ValueError, RecursionError) as error:
            raise BundleError(name, f"is not JSON: {error}") from error

    def verify(self, *, large_plans: bool = True) -> int:
        """Compare the sha256 of every file that was not read yet and return how many bytes that took.

        Args:
            large_plans: also engine plans, specialists and a text tower above `LARGE_PLAN_BYTES`. Who does
                not run one can leave it out: its size was compared, and reading it would take longer than a
                prediction.

        Raises:
            BundleError: a file was changed.
        """
        count = 0
        for name, entry in self.listed.items():
            later = name.startswith((f"{ENGINES_FOLDER}/", f"{TEXT_FOLDER}/", f"{SPECIALISTS_FOLDER}/"))
            is_large = later and entry["size"] > LARGE_PLAN_BYTES
            if name not in self._checked and (large_plans or not is_large):
                count += len(self.read(name))
        return count


def listed_files(manifest: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the table of files of a manifest: `{name: {"size": bytes, "sha256": hex}}`.

    Raises:
        BundleError: an entry lacks size or sha256, or its name is no plain relative path in the bundle.
    """
    listed = manifest.get("files")
    if not isinstance(listed, dict):
        raise BundleError(MANIFEST, "has no table of files")
    for name, entry in listed.items():
        climbs = any(part in ("", ".", "..") for part in name.split("/"))
        if climbs or name == MANIFEST or any(character in name for character in "\\:\0"):
            raise BundleError(MANIFEST, f"lists {name!r}, which is no file inside the bundle")
        if not isinstance(entry, dict) or type(entry.get("size")) is not int or "sha256" not in entry:
            raise BundleError(MANIFEST, f"has no size and sha256 for {name!r}")
    return listed


def manifest_digest(manifest: Mapping[str, Any]) -> str:
    """Return the sha256 of a manifest without its own `manifest_sha256`, whatever its layout and order."""
    rest = {key: value for key, value in manifest.items() if key != "manifest_sha256"}
    text = json.dumps(rest, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
