from __future__ import annotations

import io
import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest

from edgeproof_deploy.runtime.bundle import Bundle, manifest_digest
from edgeproof_deploy.runtime.errors import BundleError
from edgeproof_deploy.runtime.predictor import Predictor

PLAN = "engines/tensorrt_rtx-fp32-sm86.engine"
NAMES = [
    PLAN,
    "engines/tensorrt_rtx-fp32-sm86.json",
    "README.md",
    "head.safetensors",
    "labels.txt",
    "manifest.json",
    "model.onnx",
    "parity.json",
    "preprocess.json",
    "report.html",
]


@pytest.fixture
def copy(bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle, tmp_path / "copy"))


def flip(file: Path, place: int) -> None:
    data = bytearray(file.read_bytes())
    data[place] ^= 1
    file.write_bytes(data)


def rewrite(folder: Path, change: dict[str, Any]) -> None:
    """Change a manifest and give it a digest that fits, as somebody who knows the format would."""
    manifest = json.loads((folder / "manifest.json").read_text()) | change
    manifest["manifest_sha256"] = manifest_digest(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_bundle__lists_every_file(bundle: Path) -> None:
    assert sorted([*Bundle(bundle).listed, "manifest.json"]) == sorted(NAMES)
    assert sorted(Bundle(bundle).files.names()) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_bundle__one_bit_changed_in_any_file_is_found_and_named(copy: Path, name: str) -> None:
    flip(copy / name, (copy / name).stat().st_size // 2)
    with pytest.raises(BundleError, match=name.replace(".", r"\.")):
        Bundle(copy).verify()
    with pytest.raises(BundleError, match=name.replace(".", r"\.")):
        Predictor.open(copy)


def test_bundle__a_large_plan_that_is_not_used_is_not_read(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgeproof_deploy.runtime.bundle.LARGE_PLAN_BYTES", 10_000)
    flip(copy / PLAN, 0)
    Predictor.open(copy).close()
    with pytest.raises(BundleError, match="was changed: its sha256"):
        Bundle(copy).read(PLAN)
    with pytest.raises(BundleError, match="was changed: its sha256"):
        Bundle(copy).verify()


@pytest.mark.parametrize("name", NAMES)
def test_bundle__a_file_cut_missing_or_a_link_is_found_when_it_is_opened(copy: Path, name: str) -> None:
    file, whole = copy / name, (copy / name).read_bytes()
    file.write_bytes(whole[:-2])
    with pytest.raises(BundleError, match=r"was changed|is not JSON"):
        Bundle(copy)
    file.unlink()
    with pytest.raises(BundleError, match=r"is missing|has no manifest"):
        Bundle(copy)
    outside = copy.parent / "outside"
    outside.write_bytes(whole)
    file.symlink_to(outside)
    with pytest.raises(BundleError, match="is a link"):
        Bundle(copy)


def test_bundle__a_folder_that_is_a_link_is_refused(copy: Path) -> None:
    (copy / "engines").rename(copy.parent / "elsewhere")
    (copy / "engines").symlink_to(copy.parent / "elsewhere")
    with pytest.raises(BundleError, match="is a link"):
        Bundle(copy)


@pytest.mark.parametrize(
    "name", ["../secret", "/etc/passwd", "a/../../b", "a//b", "", ".", "a\\b", "C:x", "manifest.json", "a\0b"]
)
def test_bundle__names_that_leave_it_are_refused(copy: Path, name: str) -> None:
    (copy.parent / "secret").write_text("x")
    rewrite(copy, {"files": {name: {"size": 1, "sha256": "00"}}})
    with pytest.raises(BundleError, match="which is no file inside the bundle"):
        Bundle(copy)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"files": None}, "has no table of files"),
        ({"files": {"labels.txt": {"size": "3", "sha256": ""}}}, "has no size and sha256 for 'labels.txt'"),
        ({"files": {"labels.txt": 3}}, "has no size and sha256"),
        ({"schema_version": 2}, "has schema version 2, this runtime reads 1"),
        ({"schema_version": "1"}, "has no schema_version"),
    ],
)
def test_bundle__manifests_of_another_shape(copy: Path, change: dict[str, Any], words: str) -> None:
    rewrite(copy, change)
    with pytest.raises(BundleError, match=words):
        Bundle(copy)


def test_bundle__an_edited_manifest_is_found(copy: Path) -> None:
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps(manifest | {"verdict": "All is well."}))
    with pytest.raises(BundleError, match=r"manifest\.json: was changed: it does not have its own digest"):
        Bundle(copy)


def test_bundle__a_listed_file_without_which_nothing_runs(copy: Path) -> None:
    listed = json.loads((copy / "manifest.json").read_text())["files"]
    del listed["model.onnx"]
    rewrite(copy, {"files": listed})
    with pytest.raises(BundleError, match=r"model\.onnx: is not in the manifest"):
        Predictor.open(copy)


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff", b"[" * 100_000])
def test_bundle__a_manifest_that_is_none(copy: Path, content: bytes) -> None:
    (copy / "manifest.json").write_bytes(content)
    with pytest.raises(BundleError, match=r"manifest\.json: is not"):
        Bundle(copy)


def test_bundle__no_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="there is no bundle"):
        Bundle(tmp_path / "gone")
    with pytest.raises(BundleError, match="it has no manifest"):
        Bundle(tmp_path)
    (tmp_path / "photo.tar").write_bytes(b"no tar at all" * 100)
    with pytest.raises(BundleError, match="is not a readable tar"):
        Bundle(tmp_path / "photo.tar")


def test_bundle__a_tar_is_read_without_extracting(bundle: Path) -> None:
    tar = bundle.with_suffix(".tar")
    before = sorted(tar.parent.iterdir())
    opened = Bundle(tar)
    opened.verify()
    assert all(opened.read(name) == (bundle / name).read_bytes() for name in opened.listed)
    assert sorted(tar.parent.iterdir()) == before


def test_bundle__a_tar_without_a_folder_around_its_files(bundle: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "flat.tar", "w") as archive:
        archive.add(bundle, arcname=".")
    assert Bundle(tmp_path / "flat.tar").verify() > 0


def test_bundle__one_bit_changed_anywhere_in_a_tar_is_found(bundle: Path, tmp_path: Path) -> None:
    whole = bundle.with_suffix(".tar").read_bytes()
    with tarfile.open(bundle.with_suffix(".tar")) as archive:
        places = {member.name: member.offset_data + member.size // 2 for member in archive.getmembers()}
    for name, place in places.items():
        changed = bytearray(whole)
        changed[place] ^= 1
        (tmp_path / "changed.tar").write_bytes(changed)
        with pytest.raises(BundleError, match=Path(name).name.replace(".", r"\.")):
            Bundle(tmp_path / "changed.tar").verify()


def test_bundle__a_tar_cut_short(bundle: Path, tmp_path: Path) -> None:
    whole = bundle.with_suffix(".tar").read_bytes()
    for share in (0.1, 0.5, 0.9):
        (tmp_path / "cut.tar").write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(BundleError):
            Bundle(tmp_path / "cut.tar").verify()


def test_bundle__tars_that_play_tricks(bundle: Path, tmp_path: Path) -> None:
    manifest = (bundle / "manifest.json").read_bytes()

    def tar_with(*members: tuple[tarfile.TarInfo, bytes]) -> Path:
        path = tmp_path / "trick.tar"
        with tarfile.open(path, "w") as archive:
            for info, data in members:
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
        return path

    def link(name: str) -> tarfile.TarInfo:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        return info

    first = ("x/manifest.json", manifest)
    twice = tar_with((tarfile.TarInfo(first[0]), manifest), (tarfile.TarInfo(first[0]), manifest))
    with pytest.raises(BundleError, match="is in the tar twice"):
        Bundle(twice)
    listed = sorted(json.loads(manifest)["files"])
    linked = tar_with((tarfile.TarInfo(first[0]), manifest), *[(link(f"x/{name}"), b"") for name in listed])
    with pytest.raises(BundleError, match="is a link or a device"):
        Bundle(linked)
    climbing = tar_with((tarfile.TarInfo(first[0]), manifest), (tarfile.TarInfo("../evil"), b"x"))
    with pytest.raises(BundleError, match="is missing from the bundle"):
        Bundle(climbing)
    assert not (tmp_path.parent / "evil").exists()
