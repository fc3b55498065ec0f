from __future__ import annotations

import errno
import math
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeproof_configs.errors import EdgeproofError
from edgeproof_configs.files import (
    FileTable,
    atomic_open,
    digest_of,
    explain_os_errors,
    read_json,
    sha256_of,
    write_json,
    write_text,
)

EMPTY_SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_explain_os_errors__a_full_device() -> None:
    with pytest.raises(EdgeproofError, match="No space left on device") as caught:  # noqa: SIM117
        with explain_os_errors(Path("/dev/full")), open("/dev/full", "wb", buffering=0) as handle:
            handle.write(b"x")
    assert len(caught.value.lines()) == 3


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
def test_explain_os_errors__advice(number: int, tmp_path: Path) -> None:
    with pytest.raises(EdgeproofError, match="--run DIR"), explain_os_errors(tmp_path):
        raise OSError(number, os.strerror(number))


def test_explain_os_errors__others_pass(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), explain_os_errors(tmp_path):
        (tmp_path / "none").read_bytes()


def test_atomic_open__an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_text("old")

    def broken() -> Iterator[str]:
        yield "new"
        raise RuntimeError

    with pytest.raises(RuntimeError), atomic_open(file, "w") as handle:
        handle.writelines(broken())
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_atomic_open__makes_parents_and_a_readable_file(tmp_path: Path) -> None:
    file = tmp_path / "a" / "b" / "f"
    write_text(file, "é")
    assert file.read_text(encoding="utf-8") == "é"
    assert file.stat().st_mode & 0o777 == 0o644


@pytest.mark.integration
def test_atomic_open__killed_while_writing(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_text("old")
    code = (
        "import os, signal, sys; from pathlib import Path; from edgeproof_configs.files import atomic_open\n"
        "with atomic_open(Path(sys.argv[1])) as handle:\n"
        "    handle.write(b'new' * 100_000); handle.flush(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(file)])
    assert done.returncode == -signal.SIGKILL
    assert file.read_text() == "old"


def test_write_json__reads_back_and_refuses_nan(tmp_path: Path) -> None:
    file = tmp_path / "f.json"
    value = {"é": [1, 2.5, None, True]}
    write_json(file, value)
    assert read_json(file) == value
    with pytest.raises(ValueError, match="JSON"):
        write_json(file, {"loss": math.nan})
    assert read_json(file) == value


@pytest.mark.parametrize("data", [b'{"a": 1', b"", b"\xff\xfe"])
def test_read_json__cut_or_not_json(data: bytes, tmp_path: Path) -> None:
    file = tmp_path / "f.json"
    file.write_bytes(data)
    with pytest.raises(EdgeproofError, match="not a readable JSON file"):
        read_json(file)


def test_sha256_of__known_values(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_bytes(b"")
    assert sha256_of(file) == EMPTY_SHA256
    file.write_bytes(b"abc")
    assert sha256_of(file) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_digest_of__independent_of_the_order_of_keys() -> None:
    assert digest_of({"a": 1, "b": [1, 2]}) == digest_of({"b": [1, 2], "a": 1})
    assert digest_of({"a": [1, 2]}) != digest_of({"a": [2, 1]})
    assert digest_of({"a": 1}) != digest_of({"a": "1"})


def test_file_table__reads_again_only_what_changed(tmp_path: Path) -> None:
    file, place = tmp_path / "with a space", tmp_path / "table.tsv"
    file.write_bytes(b"abc")
    table = FileTable(place)
    before = table.sha256(file)
    table.save()
    stat = file.stat()
    file.write_bytes(b"xyz")
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert FileTable(place).sha256(file) == before, "same size and mtime: the file is not read"
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    assert FileTable(place).sha256(file) == sha256_of(file) != before


def test_file_table__not_written_where_nothing_changed(tmp_path: Path) -> None:
    place = tmp_path / "table.tsv"
    FileTable(place).save()
    assert not place.exists()
