from __future__ import annotations

import gzip
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from edgeproof_configs.errors import DataError
from edgeproof_data.shards.archive import NOT_A_FILE, UNSAFE_NAME, LeftOut, Member, safe_name, walk

WriteShard = Callable[..., Path]


def header(name: str, kind: bytes, link: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, link
    return made


def test_walk__finds_what_tarfile_finds(write_shard: WriteShard):
    long = "a" * 150 + ".jpg"
    entries = [("a.jpg", b"1" * 700), ("./b/c d é.jpg", b""), (long, b"22"), ("z.cls", b"0" * 512)]
    shard = write_shard("a.tar", entries)
    whole = shard.read_bytes()
    found = [one for one in walk(shard) if isinstance(one, Member)]
    assert [one.name for one in found] == ["a.jpg", "b/c d é.jpg", long, "z.cls"]
    assert [whole[one.offset : one.offset + one.size] for one in found] == [data for _, data in entries]


@pytest.mark.parametrize(
    "name", ["../x.jpg", "/etc/x.jpg", "a/../../x.jpg", "C:x.jpg", "a\\b.jpg", "a\nb.jpg"]
)
def test_walk__unsafe_names_are_left_out(write_shard: WriteShard, name: str):
    shard = write_shard("a.tar", [(name, b"x"), ("good.jpg", b"y")])
    found = list(walk(shard))
    assert found[0] == LeftOut(ascii(name), UNSAFE_NAME)
    assert isinstance(found[1], Member)


def test_walk__names_that_are_no_utf8_are_left_out(write_shard: WriteShard):
    shard = write_shard("a.tar", [("xx.jpg", b"x"), ("good.jpg", b"y")])
    spoilt = bytearray(shard.read_bytes())
    spoilt[0:2] = b"\xff\xfe"
    # The checksum of a tar header is the sum of its bytes, its own field counted as blanks.
    spoilt[148:156] = b" " * 8
    spoilt[148:156] = f"{sum(spoilt[:512]):06o}\0 ".encode()
    shard.write_bytes(spoilt)
    assert [type(one) for one in walk(shard)] == [LeftOut, Member]


def test_walk__links_and_devices_are_left_out(write_shard: WriteShard):
    kinds = [
        header("link.jpg", tarfile.SYMTYPE, "/etc/passwd"),
        header("hard.jpg", tarfile.LNKTYPE, "good.jpg"),
        header("device.jpg", tarfile.CHRTYPE),
        header("pipe.jpg", tarfile.FIFOTYPE),
        header("folder", tarfile.DIRTYPE),
    ]
    found = list(walk(write_shard("a.tar", [*kinds, ("good.jpg", b"y")])))
    assert [one.reason for one in found if isinstance(one, LeftOut)] == [NOT_A_FILE] * 4
    assert [one.name for one in found if isinstance(one, Member)] == ["good.jpg"]


def cut_in_member(whole: bytes) -> bytes:
    return whole[: 512 * 2 + 10]


def cut_at_boundary(whole: bytes) -> bytes:
    return whole[: 512 * 3]


def cut_in_header(whole: bytes) -> bytes:
    return whole[: 512 * 3 + 200]


def garbage_between(whole: bytes) -> bytes:
    return whole[: 512 * 3] + b"\x55" * 512 + whole[512 * 3 :]


def nothing(whole: bytes) -> bytes:
    return b""


def a_page(whole: bytes) -> bytes:
    return b"<!DOCTYPE html><title>404</title>" * 100


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (cut_in_member, "cut"),
        (cut_at_boundary, "cut: nothing says that it ends"),
        (cut_in_header, "cut|damaged|readable"),
        (garbage_between, "damaged at byte 1536"),
        (nothing, "cut|readable"),
        (a_page, "not a readable tar file"),
        (gzip.compress, "gunzip"),
    ],
)
def test_walk__what_is_half_done_is_refused(
    write_shard: WriteShard, harm: Callable[[bytes], bytes], words: str
):
    shard = write_shard("a.tar", [("a.jpg", b"1" * 600), ("b.jpg", b"2" * 300)])
    shard.write_bytes(harm(shard.read_bytes()))
    with pytest.raises(DataError) as error:
        list(walk(shard))
    assert any(word in str(error.value) for word in words.split("|")), str(error.value)


def test_walk__a_header_that_claims_a_gigabyte_is_not_read(tmp_path: Path):
    claim = header("x", tarfile.XHDTYPE)
    claim.size = 1 << 30
    shard = tmp_path / "a.tar"
    with shard.open("wb") as handle:
        handle.write(claim.tobuf(tarfile.USTAR_FORMAT))
        handle.truncate((1 << 30) + 4096)
    with pytest.raises(DataError, match="a header of"):
        list(walk(shard))


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("a.jpg", "a.jpg"),
        ("./a/./b.jpg", "a/b.jpg"),
        ("猫/é f.jpg", "猫/é f.jpg"),
        ("a//b", None),
        (".", None),
    ],
)
def test_safe_name__cases(name: str, safe: str | None):
    assert safe_name(name) == safe
