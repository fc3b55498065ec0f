from __future__ import annotations

import hashlib
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgeproof_configs.errors import DataError
from edgeproof_configs.files import sha256_of
from edgeproof_data.check import scan
from edgeproof_data.shards import members as members_module
from edgeproof_data.shards.index import index_of
from edgeproof_data.shards.members import Shards, ShardSet
from edgeproof_data.shards.samples import Wanted, read_samples
from edgeproof_deploy.runtime.preprocess import ImageError, open_image

WriteShard = Callable[..., Path]


def set_of(*files: Path) -> ShardSet:
    indices = [index_of(file, file.parent / "cache") for file in files]
    shards = Shards(indices)
    found = read_samples([file.name for file in files], indices, shards, 0, Wanted(None, None, None))
    labels = np.full(len(found.paths), -1, np.int64)
    return ShardSet(files[0].parent, tuple(found.paths), labels, (), shards, found.members)


def test_shard_set__reads_what_was_written(three_shards: Path, make_samples: Callable[[int, int], list]):
    images = set_of(three_shards / "train-000.tar", three_shards / "train-001.tar")
    written = [data for name, data in make_samples(0, 24) if name.endswith(".jpg")]
    assert [images.read(index) for index in range(24)] == written
    assert images.paths[13] == "train-001.tar/000013.jpg"
    part = images.subset([20, 3])
    assert [part.read(0), part.file(1).read_bytes()] == [written[20], written[3]]


def test_shard_set__a_path_serves_as_a_file(three_shards: Path):
    images = set_of(three_shards / "train-000.tar")
    file = images.file(5)
    assert str(file) == str(three_shards / "train-000.tar" / "000005.jpg")
    assert sha256_of(file) == hashlib.sha256(images.read(5)).hexdigest()
    assert open_image(file).size == (24, 24)
    assert file.stat().st_size == len(images.read(5))
    assert file.is_file()
    assert pickle.loads(pickle.dumps(file)).read_bytes() == images.read(5)
    with pytest.raises(ValueError, match="as 'rb'"):
        file.open("w")


def test_shard_set__stats_change_with_contents_alone(write_shard: WriteShard):
    first = set_of(write_shard("a.tar", [("a.jpg", b"1"), ("b.jpg", b"2")])).stats()
    os.utime(write_shard("a.tar", [("b.jpg", b"2"), ("a.jpg", b"1")]), (9, 9))
    again = set_of(write_shard("b.tar", [("b.jpg", b"2"), ("a.jpg", b"3")])).stats()
    assert first[:, 0].tolist() == [1, 1]
    assert again[0].tolist() == first[1].tolist()
    assert again[1, 1] != first[0, 1]
    assert (first >= 0).all()


def test_shard_set__a_shard_that_changes_after_its_index_is_refused(write_shard: WriteShard):
    images = set_of(write_shard("a.tar", [("a.jpg", b"1" * 99)]))
    file = write_shard("a.tar", [("a.jpg", b"2" * 99)])
    os.utime(file, (9, 9))
    with pytest.raises(DataError, match="changed after it was indexed"):
        images.read(0)
    file.unlink()
    again = ShardSet(images.root, images.paths, images.labels, (), Shards([]), images.members)
    again.shards.files, again.shards.stats = images.shards.files, images.shards.stats
    with pytest.raises(DataError, match="cannot be read"):
        again.read(0)


def test_shard_set__cut_while_it_is_open(write_shard: WriteShard):
    images = set_of(write_shard("a.tar", [("a.jpg", b"1" * 99)]))
    images.read(0)
    os.truncate(images.shards.files[0], 520)
    with pytest.raises(DataError, match="changed after it was indexed"):
        images.read(0)


def test_shards__few_are_open_at_a_time(write_shard: WriteShard, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(members_module, "MOST_OPEN", 3)
    images = set_of(*(write_shard(f"{n}.tar", [("a.jpg", bytes([n]))]) for n in range(9)))
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(2):
        assert [images.read(index) for index in range(9)] == [bytes([n]) for n in range(9)]
    assert len(os.listdir("/proc/self/fd")) <= before + 3


def test_scan__finds_the_same_in_shards_as_in_files(
    write_shard: WriteShard, make_samples: Callable[..., list]
):
    entries = [entry for entry in make_samples(0, 3) if entry[0].endswith(".jpg")]
    bad = [("cut.jpg", entries[0][1][:200]), ("page.jpg", b"<html>"), ("none.jpg", b"")]
    report = scan(set_of(write_shard("a.tar", [*entries, *bad, ("twin.jpg", entries[1][1])])))
    assert [path for path, _ in report.corrupt] == ["a.tar/cut.jpg", "a.tar/page.jpg"]
    assert report.empty == ["a.tar/none.jpg"]
    assert report.duplicates == [["a.tar/000001.jpg", "a.tar/twin.jpg"]]


def test_open_image__a_decompression_bomb_in_a_shard(write_shard: WriteShard, bomb: bytes):
    images = set_of(write_shard("a.tar", [("bomb.png", bomb)]))
    with pytest.raises(ImageError, match="million pixels"):
        open_image(images.file(0))
    assert scan(images).corrupt[0][0] == "a.tar/bomb.png"
