from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from edgeproof_configs.errors import DataError
from edgeproof_data.shards import index as index_module
from edgeproof_data.shards.index import index_of

WriteShard = Callable[..., Path]


def test_index_of__says_where_and_what(write_shard: WriteShard, tmp_path: Path):
    entries = [("a.jpg", b"1" * 700), ("b.jpg", b"2" * 3)]
    shard = write_shard("a.tar", entries)
    found = index_of(shard, tmp_path / "cache")
    whole = shard.read_bytes()
    assert found.names() == ["a.jpg", "b.jpg"]
    for record, (_, data) in zip(found.members, entries, strict=True):
        assert whole[record["offset"] : record["offset"] + record["size"]] == data
        assert record["sha256"].tobytes() == hashlib.sha256(data).digest()


def test_index_of__made_once_and_again_when_the_shard_changes(
    write_shard: WriteShard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    shard, cache = write_shard("a.tar", [("a.jpg", b"1")]), tmp_path / "cache"
    first = index_of(shard, cache)
    walked: list[Path] = []
    walk = index_module.walk
    monkeypatch.setattr(index_module, "walk", lambda shard: [walked.append(shard), *walk(shard)][1:])
    assert index_of(shard, cache).names() == first.names()
    assert not walked
    write_shard("a.tar", [("b.jpg", b"1"), ("c.jpg", b"2")])
    assert index_of(shard, cache).names() == ["b.jpg", "c.jpg"]
    assert walked == [shard]


def test_index_of__its_bytes_depend_on_the_contents_alone(write_shard: WriteShard, tmp_path: Path):
    shard = write_shard("a.tar", [("a.jpg", b"1")])
    first = index_of(shard, tmp_path / "one").file.read_bytes()
    os.utime(shard, (5, 5))
    assert index_of(shard, tmp_path / "one").file.read_bytes() == first
    assert index_of(shard, tmp_path / "one").stat[1] == 5_000_000_000


@pytest.mark.parametrize("suffix", [".index.npy", ".index.json"])
@pytest.mark.parametrize("harm", [lambda data: data[: len(data) // 2], lambda data: b"", lambda data: b"{}"])
def test_index_of__a_spoilt_index_is_made_anew(
    write_shard: WriteShard, tmp_path: Path, suffix: str, harm: Callable[[bytes], bytes]
):
    shard, cache = write_shard("a.tar", [("a.jpg", b"1"), ("b.jpg", b"2")]), tmp_path / "cache"
    whole = index_of(shard, cache).members
    (file,) = cache.glob(f"*{suffix}")
    file.write_bytes(harm(file.read_bytes()))
    assert (index_of(shard, cache).members == whole).all()


def test_index_of__a_name_twice_is_refused(write_shard: WriteShard, tmp_path: Path):
    shard = write_shard("a.tar", [("a.jpg", b"1"), ("b.jpg", b"2"), ("./a.jpg", b"3")])
    with pytest.raises(DataError, match=r"1 name more than once in this shard: a\.jpg"):
        index_of(shard, tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("*.npy"))


def test_index_of__a_missing_shard(tmp_path: Path):
    with pytest.raises(DataError, match="cannot be read"):
        index_of(tmp_path / "none.tar", tmp_path / "cache")


def test_index_of__an_empty_archive_has_no_members(write_shard: WriteShard, tmp_path: Path):
    assert len(index_of(write_shard("a.tar", []), tmp_path / "cache").members) == 0
