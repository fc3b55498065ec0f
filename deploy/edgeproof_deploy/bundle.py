"""Writing a bundle: what is shipped, with a manifest that lets the device check every byte of it."""

from __future__ import annotations

import shutil
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeproof_configs import __version__
from edgeproof_configs.errors import EdgeproofError
from edgeproof_configs.files import atomic_open, explain_os_errors, sha256_of, write_json, write_text
from edgeproof_deploy.bundle_readme import bundle_readme
from edgeproof_deploy.runtime.bundle import (
    ENGINES_FOLDER,
    MANIFEST,
    SCHEMA_VERSION,
    SPECIALISTS_FOLDER,
    TEXT_FOLDER,
    Bundle,
    manifest_digest,
)
from edgeproof_deploy.runtime.errors import BundleError
from edgeproof_deploy.runtime.head import HEAD_FILE, LABELS_FILE
from edgeproof_deploy.runtime.predictor import PREPROCESS_FILE
from edgeproof_deploy.runtime.preprocess import Preprocess
from edgeproof_deploy.runtime.self_test import FOLDER as SELF_TEST_FOLDER

OURS = ("schema_version", "edgeproof_version", "name", "files", "manifest_sha256")


@dataclass(frozen=True)
class BundleParts:
    """Where the parts of a bundle lie.

    Attributes:
        name: of the bundle, and of the folder in the tar.
        models: the ONNX files, `model.onnx` among them.
        head: the folder with `head.safetensors` and `labels.txt`.
        preprocess: from image to input.
        parity: `parity.json`.
        report: `report.html`, if there is one.
        engines: plans and their sidecars; they keep their names.
        text: model, settings and merges of the text tower; they keep their names.
        self_test: images and what the models gave for them, as `write_self_test` returns them.
        specialists: what steps of a cascade ask about images: files by their names below `specialists/`.
        facts: what the manifest says besides: `teacher`, `student`, `data`, `recipe`, `versions`, `verdict`.
    """

    name: str
    models: Sequence[Path]
    head: Path
    preprocess: Preprocess
    parity: Path
    report: Path | None = None
    engines: Sequence[Path] = ()
    text: Sequence[Path] = ()
    self_test: Sequence[Path] = ()
    specialists: Mapping[str, Path] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)

    def sources(self) -> dict[str, Path]:
        """Return the files to copy, by their names in the bundle."""
        listed = {
            HEAD_FILE: self.head / HEAD_FILE,
            LABELS_FILE: self.head / LABELS_FILE,
            "parity.json": self.parity,
        }
        if self.report is not None:
            listed["report.html"] = self.report
        listed |= {file.name: file for file in self.models}
        listed |= {f"{SELF_TEST_FOLDER}/{file.name}": file for file in self.self_test}
        listed |= {f"{SPECIALISTS_FOLDER}/{name}": file for name, file in self.specialists.items()}
        listed |= {f"{TEXT_FOLDER}/{file.name}": file for file in self.text}
        return listed | {f"{ENGINES_FOLDER}/{file.name}": file for file in self.engines}


def write_bundle(folder: Path, parts: BundleParts, *, tar: Path | None = None) -> list[Path]:
    """Write a bundle as a folder and, if asked for, as one `.tar` too.

    The folder is made under another name and put in place whole; one that was there is replaced.

    Args:
        folder: where it shall lie.
        parts: what goes into it.
        tar: the archive, uncompressed; the same parts always give the same bytes.

    Returns:
        every file of the folder, the manifest last, and the tar.

    Raises:
        EdgeproofError: a part is missing, or the place cannot be written.
    """
    clash = sorted(set(parts.facts) & set(OURS))
    if clash:
        raise ValueError(f"facts must not have the manifest's own keys {clash}")
    sources = parts.sources()
    missing = [str(source) for source in sources.values() if not source.is_file()]
    if missing:
        raise EdgeproofError(
            f"a part of the bundle is missing: {missing[0]}", fix="run the stage that makes it again"
        )
    with replaced_folder(folder) as building:
        for name, source in sources.items():
            target = building / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
        write_json(building / PREPROCESS_FILE, parts.preprocess.to_dict())
        write_text(building / "README.md", bundle_readme(parts, sorted(sources)))
        write_json(building / MANIFEST, manifest_of(building, parts))
    names = [*read_bundle(folder).listed, MANIFEST]
    written = [folder / name for name in names]
    if tar is not None:
        write_tar(folder, names, parts.name, tar)
        written.append(tar)
    return written


def manifest_of(folder: Path, parts: BundleParts) -> dict[str, Any]:
    """Return the manifest of a folder that is complete but for it."""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    listed = {
        file.relative_to(folder).as_posix(): {"size": file.stat().st_size, "sha256": sha256_of(file)}
        for file in files
    }
    manifest: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "edgeproof_version": __version__,
        "name": parts.name,
        **parts.facts,
        "files": listed,
    }
    manifest["manifest_sha256"] = manifest_digest(manifest)
    return manifest


@contextmanager
def replaced_folder(folder: Path) -> Iterator[Path]:
    """Give an empty folder that takes the place of `folder` when the block ends without an error."""
    building, old = folder.with_name(f".{folder.name}.new"), folder.with_name(f".{folder.name}.old")
    with explain_os_errors(folder):
        for left_over in (building, old):
            shutil.rmtree(left_over, ignore_errors=True)
        building.mkdir(parents=True)
        try:
            yield building
            if folder.exists():
                folder.rename(old)
            building.rename(folder)
        except BaseException:
            shutil.rmtree(building, ignore_errors=True)
            raise
        shutil.rmtree(old, ignore_errors=True)


def write_tar(folder: Path, names: Sequence[str], root: str, path: Path) -> None:
    """Write files of a folder as a tar below the folder `root`, without times or owners."""
    with (
        atomic_open(path) as handle,
        tarfile.open(fileobj=handle, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for name in names:
            entry = tarfile.TarInfo(f"{root}/{name}")
            entry.size = (folder / name).stat().st_size
            with (folder / name).open("rb") as source:
                archive.addfile(entry, source)


def read_bundle(path: Path) -> Bundle:
    """Return a bundle, its sizes compared with its manifest.

    Raises:
        EdgeproofError: it is no bundle, or a file is missing or was changed.
    """
    try:
        return Bundle(path)
    except BundleError as error:
        raise tampered(error, path) from error


def verify_bundle(path: Path) -> int:
    """Compare the sha256 of every file of a bundle, a folder or a `.tar`, and return how many there are.

    Raises:
        EdgeproofError: a file is missing or was changed; it is named.
    """
    bundle = read_bundle(path)
    try:
        bundle.verify()
    except BundleError as error:
        raise tampered(error, path) from error
    return len(bundle.listed)


def tampered(error: BundleError, path: Path) -> EdgeproofError:
    """Return the error of this program for one of the runtime."""
    return EdgeproofError(
        f"the bundle cannot be used: {error}", where=path, fix="copy it again, or make it again"
    )
