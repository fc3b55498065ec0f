"""Storage behind fsspec that fails: in the middle, for a while, for good, or by keeping bytes to itself."""

from __future__ import annotations

import io
import zipfile
from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from edgeproof_configs.errors import DataError, EdgeproofError, MissingPackageError, UsageError
from edgeproof_data.shards import remote
from edgeproof_data.shards.listing import list_shards
from edgeproof_data.shards.remote import fetch
from edgeproof_data.shards.storage import file_system

fsspec = pytest.importorskip("fsspec")
BODY = bytes(range(256)) * 10_000
HALF = len(BODY) // 2


class LibraryError(Exception):
    """What a storage's own package may raise: no relative of OSError."""


class Breaking(io.RawIOBase):
    """A file whose reading ends in an exception once half of it was read."""

    def __init__(self, error: Exception):
        super().__init__()
        self._rest, self._error = io.BytesIO(BODY[:HALF]), error

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data = self._rest.read(size)
        if not data:
            raise self._error
        return data


class Faulty(fsspec.AbstractFileSystem):
    """A path says how the file is spoilt, and how often: `break-2.tar` breaks off twice."""

    protocol = "faulty"
    cachable = False
    opened: Counter[str] = Counter()  # noqa: RUF012 - shared on purpose

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        name = self._strip_protocol(path)
        if name.startswith("gone"):
            raise FileNotFoundError(name)
        if name.startswith("locked"):
            raise PermissionError("no credentials")
        if name.startswith("deaf"):
            raise LibraryError("no route to the storage\nand a second line")
        return {"name": name, "size": None if name.startswith("unsized") else len(BODY), "type": "file"}

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        raise LibraryError("may not be listed")

    def _open(self, path: str, *_: Any, **__: Any) -> Any:
        name = self._strip_protocol(path)
        self.opened[name] += 1
        kind, _, times = name.removesuffix(".tar").partition("-")
        if self.opened[name] > int(times or 10**6):
            return io.BytesIO(BODY)
        if kind == "short":
            return io.BytesIO(BODY[:HALF])
        if kind == "long":
            return io.BytesIO(BODY + b"more")
        return Breaking(LibraryError("connection lost") if kind == "library" else OSError(5, "I/O error"))


@pytest.fixture(autouse=True)
def faulty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "WAIT_SECONDS", 0.01)
    fsspec.register_implementation("faulty", Faulty, clobber=True)
    Faulty.opened.clear()


def left(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir() if not file.name.endswith(".lock"))


@pytest.mark.parametrize("name", ["break-2.tar", "library-1.tar", "short-3.tar", "long-1.tar"])
def test_fetch__a_copy_that_breaks_off_is_made_again(tmp_path: Path, name: str):
    assert fetch(f"faulty://{name}", tmp_path).read_bytes() == BODY
    assert Faulty.opened[name] == int(name.partition("-")[2][0]) + 1
    assert len(left(tmp_path)) == 2
    fetch(f"faulty://{name}", tmp_path)
    assert Faulty.opened[name] == int(name.partition("-")[2][0]) + 1


@pytest.mark.parametrize(
    ("name", "words", "attempts"),
    [
        ("break.tar", "cannot be fetched: .*I/O error .4 attempts", 4),
        ("library.tar", "cannot be fetched: LibraryError: connection lost", 4),
        ("short.tar", "1,280,000 bytes came, 2,560,000 were promised", 4),
        ("long.tar", "2,560,004 bytes came, 2,560,000 were promised", 4),
        ("deaf.tar", "cannot be fetched: LibraryError: no route to the storage .4", 0),
        ("gone.tar", "no such shard", 0),
        ("locked.tar", "may not be read", 0),
    ],
)
def test_fetch__what_stays_broken_is_told_and_leaves_nothing(
    tmp_path: Path, name: str, words: str, attempts: int
):
    with pytest.raises(DataError, match=words) as error:
        fetch(f"faulty://{name}", tmp_path)
    assert error.value.where == f"faulty://{name}"
    assert error.value.fix
    assert len(error.value.lines()) == 3
    assert "\n" not in error.value.what
    assert Faulty.opened[name] == attempts
    assert left(tmp_path) == []


@pytest.mark.parametrize(("name", "words"), [("unsized-0.tar", "No space left"), ("good-0.tar", "are free")])
def test_fetch__a_full_disk_is_no_reason_to_try_again(small_disk: Path, name: str, words: str):
    with pytest.raises(EdgeproofError, match=words):
        fetch(f"faulty://{name}", small_disk)
    assert Faulty.opened[name] == (name == "unsized-0.tar")
    assert left(small_disk) == []


def test_fetch__a_note_that_is_cut_counts_for_nothing(tmp_path: Path):
    copy = fetch("faulty://good-0.tar", tmp_path)
    for spoilt in ('{"address": "fau', "{}", "[]"):
        copy.with_name(f"{copy.name}.json").write_text(spoilt)
        assert fetch("faulty://good-0.tar", tmp_path).read_bytes() == BODY
    assert Faulty.opened["good-0.tar"] == 4


def test_list_shards__storage_that_cannot_be_listed():
    with pytest.raises(DataError, match="cannot be listed: LibraryError: may not be listed") as error:
        list_shards("a-*.tar", "faulty://bucket")
    assert error.value.where == "faulty://bucket/a-*.tar"


def test_fetch__out_of_a_zip_archive(tmp_path: Path):
    archive = tmp_path / "pack.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("inner/a.tar", BODY)
    address = f"zip://inner/a.tar::{archive}"
    assert fetch(address, tmp_path / "copies").read_bytes() == BODY
    with pytest.raises(DataError, match="no such shard"):
        fetch(f"zip://inner/b.tar::{archive}", tmp_path / "copies")
    archive.write_bytes(archive.read_bytes()[:HALF])
    with pytest.raises(DataError, match="cannot be opened: BadZipFile"):
        fetch(f"zip://other.tar::{archive}", tmp_path / "copies")


@pytest.mark.parametrize(
    ("address", "package"),
    [
        ("s3://bucket/a.tar", "s3fs"),
        ("gs://bucket/a.tar", "gcsfs"),
        ("az://box/a.tar", "adlfs"),
        ("sftp://host/a.tar", "paramiko"),
    ],
)
def test_file_system__says_which_package_to_install(address: str, package: str):
    if find_spec(package) is not None:
        pytest.skip(f"{package} is installed")
    with pytest.raises(MissingPackageError, match=f"'{package}' is needed") as error:
        file_system(address)
    assert (error.value.fix, error.value.where, error.value.exit_code) == (
        f"pip install {package}",
        address,
        5,
    )


def test_file_system__unknown_kind():
    with pytest.raises(UsageError, match="unknown kind of address 'nope://'"):
        file_system("nope://bucket/a.tar")
