from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from edgeproof_configs.errors import DataError
from edgeproof_data.shards.index import index_of
from edgeproof_data.shards.members import Shards
from edgeproof_data.shards.samples import Samples, Wanted, read_samples
from edgeproof_data.shards.selection import chosen_samples
from edgeproof_data.shards.sums import read_sums


def read(folder: Path, wanted: Wanted) -> Samples:
    files = sorted(folder.glob("train-*.tar"))
    indices = [index_of(file, folder / "cache") for file in files]
    return read_samples([file.name for file in files], indices, Shards(indices), 0, wanted)


def test_read_samples__labels_and_captions(three_shards: Path):
    found = read(three_shards, Wanted(None, "cls", "txt"))
    assert found.labels == ["dog", "cat"] * 12
    assert found.captions == [[f"photo {n}"] for n in range(24)]
    assert found.members["shard"].tolist() == [0] * 12 + [1] * 12
    plain = read(three_shards, Wanted("jpg", None, None))
    assert (plain.labels, plain.captions) == (None, None)
    assert plain.paths == found.paths


def test_read_samples__members_of_a_sample_need_not_be_neighbours(write_shard: Callable[..., Path]):
    names = ["a/x.y.jpg", "a/z.jpg", "b/x.jpg", "b/x.cls", "a/z.cls", "a/x.cls"]
    file = write_shard("train-0.tar", [(name, name.encode()) for name in names])
    found = read(file.parent, Wanted(None, "cls", None))
    assert found.labels == ["a/x.cls", "a/z.cls", "b/x.cls"]


def test_read_samples__a_folder_for_a_label_needs_a_folder(three_shards: Path):
    with pytest.raises(DataError, match="lies in no folder"):
        read(three_shards, Wanted(None, "folders", None))


def test_chosen_samples__keeps_the_order_of_the_shards(three_shards: Path, tmp_path: Path):
    table = tmp_path / "t.csv"
    rows = [f"train-001.tar/{n:06d}.jpg,train,x" for n in (20, 13)] + ["train-000.tar/000001.jpg,val,y"]
    table.write_text("path,part,label\n" + "\n".join(rows))
    found = chosen_samples(table, read(three_shards, Wanted(None, None, "txt")), labelled=True)
    assert found["train"].paths == [f"train-001.tar/{n:06d}.jpg" for n in (13, 20)]
    assert found["train"].captions == [["photo 13"], ["photo 20"]]
    assert found["val"].labels == ["y"]


@pytest.mark.parametrize("line", ["abc  x.tar", "0" * 64, f"{'0' * 64}  x.tar\n{'1' * 64}  x.tar"])
def test_read_sums__what_is_no_sum_is_refused(tmp_path: Path, line: str):
    (tmp_path / "sums").write_text(line)
    with pytest.raises(DataError, match="names no file with one sha256"):
        read_sums(tmp_path / "sums")


def test_read_sums__as_sha256sum_writes_it(tmp_path: Path):
    (tmp_path / "sums").write_text(f"{'a' * 64}  dir/x y.tar\n{'B' * 64} *z.tar\n\n")
    assert read_sums(tmp_path / "sums") == {"x y.tar": "a" * 64, "z.tar": "b" * 64}
