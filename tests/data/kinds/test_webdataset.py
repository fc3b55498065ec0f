from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from edgeproof_configs.errors import DataError, UsageError
from edgeproof_data.kinds.webdataset import WebDataset
from edgeproof_data.sets import SPLITS


def picture(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 24, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()


def write(file: Path, entries: dict[str, bytes]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(file, "w") as archive:
        for name, data in entries.items():
            header = tarfile.TarInfo(name)
            header.size = len(data)
            archive.addfile(header, io.BytesIO(data))


def entries(start: int, count: int, label: str = "cls") -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for number in range(start, start + count):
        found[f"{number:04d}.jpg"] = picture(number)
        found[f"{number:04d}.{label}"] = (b"dog", b"stop_sign")[number % 2]
        found[f"{number:04d}.json"] = f'{{"kind": {number % 2}, "words": ["one {number}", "two"]}}'.encode()
    return found


@pytest.fixture
def root(tmp_path: Path) -> Path:
    place = tmp_path / "shards"
    write(place / "train-000.tar", entries(0, 20))
    write(place / "train-001.tar", entries(20, 20))
    write(place / "val-000.tar", entries(40, 6))
    write(place / "test-000.tar", entries(50, 8))
    return place


def source(root: Path | str, **settings: Any) -> WebDataset:
    return WebDataset(WebDataset.Config(root=str(root), **settings))


def test_split__by_shards(root: Path):
    data = source(root, val="val-*.tar", captions="json.words")
    data.prepare()
    assert [len(data.split(part)) for part in ("train", "val", "test")] == [40, 6, 8]
    assert data.class_names == ("dog", "stop sign")
    assert data.split("test").paths[1] == "test-000.tar/0051.jpg"
    assert data.split("test").labels.tolist() == [0, 1] * 4
    assert data.captions("val") == [[f"one {n}", "two"] for n in range(40, 46)]
    assert data.remarks() == []
    assert source(root, val="val-*.tar").captions("val") is None


def test_split__by_fractions_is_stratified_and_loses_nothing(root: Path):
    data = source(root, val=0.2, test=0.25, captions="json.words")
    parts = {name: data.split(name) for name in SPLITS}
    assert [len(part) for part in parts.values()] == [24, 6, 10]
    assert len({path for part in parts.values() for path in part.paths}) == 40
    assert all(np.bincount(part.labels).tolist() == [len(part) // 2] * 2 for part in parts.values())
    for name in SPLITS:
        part = parts[name]
        numbers = [int(path[-8:-4]) for path in part.paths]
        assert data.captions(name) == [[f"one {n}", "two"] for n in numbers]
        assert [part.read(i) for i in range(len(part))] == [picture(n) for n in numbers]
    other = source(root, val=0.2, test=0.25, seed=1)
    assert other.split("val").paths != parts["val"].paths


def test_labels__numbers_count_the_lines_of_a_class_list(root: Path):
    (root / "classes.txt").write_text("apple\npear\n")
    data = source(root, labels="json.kind", classes="classes.txt")
    assert data.class_names == ("apple", "pear")
    assert data.split("test").labels.tolist() == [0, 1] * 4
    assert data.files()[-1] == root / "classes.txt"
    (root / "classes.txt").write_text("apple\n")
    with pytest.raises(DataError, match="beyond the 1 classes"):
        source(root, labels="json.kind", classes="classes.txt").prepare()


def test_labels__folders_and_none(tmp_path: Path):
    for part in ("train", "test"):
        names = [f"{kind}/{number}" for kind in ("red_fox", "owl") for number in range(10)]
        write(tmp_path / f"{part}.tar", {f"{name}.jpg": picture(n) for n, name in enumerate(names)})
    data = source(tmp_path, labels="folders")
    assert data.class_names == ("owl", "red fox")
    plain = source(tmp_path, labels="none")
    assert plain.class_names == ()
    assert set(plain.split("train").labels) == {-1}


def test_unseen__is_kept_out_of_train_and_val(root: Path):
    data = source(root, val=0.2, test=0.25, unseen=("stop sign",))
    assert set(data.split("train").labels) == set(data.split("val").labels) == {0}
    assert set(data.split("test").labels) == {0, 1}


def test_files__say_what_is_in_the_shards_and_not_when(root: Path):
    before = {file.name: file.read_bytes() for file in source(root).files()}
    for file in root.glob("*.tar"):
        file.touch()
    assert {file.name: file.read_bytes() for file in source(root).files()} == before
    write(root / "train-001.tar", entries(21, 20))
    after = {file.name: file.read_bytes() for file in source(root).files()}
    assert [before[name] == after[name] for name in sorted(before)].count(False) == 1


def test_samples__with_several_images_need_a_word(tmp_path: Path):
    for part in ("train", "test"):
        pairs = {f"{n}.{side}.jpg": picture(n) for n in range(12) for side in ("left", "right")}
        write(tmp_path / f"{part}.tar", pairs | {f"{n}.cls": b"ab"[n % 2 : n % 2 + 1] for n in range(12)})
    with pytest.raises(DataError, match=r"has 2 images: left\.jpg, right\.jpg"):
        source(tmp_path).prepare()
    assert source(tmp_path, image="right.jpg").split("test").paths[0] == "test.tar/0.right.jpg"


def test_remarks__count_what_is_left_out(root: Path):
    spoilt = entries(0, 20) | {"../../evil.jpg": b"x", "/abs.jpg": b"x", "0099.cls": b"dog"}
    write(root / "train-000.tar", spoilt)
    data = source(root)
    remarks = data.remarks()
    assert len(data.split("train")) + len(data.split("val")) == 40
    assert any("2 members left out" in line and "../../evil.jpg" in line for line in remarks)
    assert any("1 sample without an image: train-000.tar/0099" in line for line in remarks)
    assert not list(root.parent.rglob("evil.jpg"))


@pytest.mark.parametrize(
    ("spoilt", "settings", "words"),
    [
        ({"0003.cls": b"\xff\xfe"}, {}, "cannot be read"),
        ({"0003.cls": b"  "}, {}, "no text or number"),
        ({"0003.cls": None}, {}, r"no member \.cls"),
        ({"0003.json": b"{"}, {"labels": "json.kind"}, "cannot be read"),
        ({"0003.json": b"[" * 100_000}, {"labels": "json.kind"}, "cannot be read"),
        ({"0003.json": b"{}"}, {"labels": "json.kind"}, "no 'kind' in its .json"),
        ({"0003.json": b'{"kind": [1]}'}, {"labels": "json.kind"}, "no text or number"),
        ({"0003.json": b'{"words": [""]}'}, {"captions": "json.words"}, "caption that is empty"),
        ({"0003.cls": b"x" * 2_000_000}, {}, "2,000,000 bytes"),
        ({}, {"labels": "folders"}, "lies in no folder"),
        ({}, {"test": "none-*.tar"}, "no shard is named like"),
        ({}, {"val": "train-001.tar"}, "both in train and in val"),
    ],
)
def test_prepare__bad_samples_are_explained(
    root: Path, spoilt: dict[str, bytes | None], settings: dict[str, Any], words: str
):
    changed = {**entries(0, 20), **spoilt}
    write(root / "train-000.tar", {name: data for name, data in changed.items() if data is not None})
    with pytest.raises(DataError, match=words) as error:
        source(root, **settings).prepare()
    assert len(error.value.lines()) <= 3


@pytest.mark.parametrize(
    "settings",
    [
        {"labels": "none", "classes": "c.txt"},
        {"val": "v.tar", "test": "t.tar", "seed": 1},
        {"sums": "sums.txt"},
        {"val": 1.5},
        {"split": "a.csv", "test": "t.tar"},
        {"split": "a.csv", "val": "v.tar"},
        {"split": "a.csv", "labels": "folders"},
    ],
)
def test_config__what_has_no_effect_is_refused(settings: dict[str, Any]):
    with pytest.raises(ValidationError):
        WebDataset.Config(root="/x", **settings)


def test_root__must_be_said_and_exist(tmp_path: Path):
    with pytest.raises(UsageError, match=r"data\.root is not set"):
        WebDataset(WebDataset.Config()).prepare()
    with pytest.raises(DataError, match="does not exist"):
        source(tmp_path / "none").prepare()


def test_split__shards_in_a_storage_with_sums(root: Path, tmp_path: Path):
    fsspec = pytest.importorskip("fsspec")
    system = fsspec.filesystem("memory")
    for file in root.glob("*.tar"):
        system.pipe_file(f"/pack/{file.name}", file.read_bytes())
    cache = tmp_path / "cache"
    data = source("memory://pack", cache=str(cache))
    data.prepare()
    assert data.root == cache / "shards"
    assert data.split("test").paths[0] == "test-000.tar/0050.jpg"
    assert data.split("test").read(0) == picture(50)
    (cache / "shards" / "sums.txt").write_text("0" * 64 + "  other.tar\n")
    with pytest.raises(DataError, match="no sha256 of this shard"):
        source("memory://pack", cache=str(cache), sums="sums.txt").prepare()
    (cache / "shards" / "sums.txt").write_text("0" * 64 + "  train-000.tar\n")
    with pytest.raises(DataError, match="not what its sha256 says"):
        source("memory://pack", cache=str(cache), sums="sums.txt").prepare()


def test_split__by_a_table_of_samples(root: Path):
    rows = [
        f"train-00{n // 20}.tar/{n:04d}.jpg,{'test' if n % 5 == 0 else 'train'},k{n % 2}" for n in range(30)
    ]
    (root / "chosen.csv").write_text("path,part,label\n" + "\n".join(rows) + "\n")
    data = source(root, split="chosen.csv", captions="json.words", val=0.25)
    parts = {name: data.split(name) for name in SPLITS}
    assert [len(part) for part in parts.values()] == [18, 6, 6]
    assert data.class_names == ("k0", "k1")
    for name in SPLITS:
        numbers = [int(path[-8:-4]) for path in parts[name].paths]
        assert parts[name].labels.tolist() == [number % 2 for number in numbers]
        assert data.captions(name) == [[f"one {number}", "two"] for number in numbers]
        assert [parts[name].read(i) for i in range(len(numbers))] == [picture(number) for number in numbers]
    assert {int(path[-8:-4]) % 5 for path in parts["test"].paths} == {0}
    assert data.files()[-1] == root / "chosen.csv"
    assert source(root, split="chosen.csv", labels="none").class_names == ()


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ("train-000.tar/9999.jpg,train,a\n", "in none of the shards: train-000.tar/9999.jpg"),
        ("train-000.tar/0001.jpg,train,\n", "without a label"),
        ("train-000.tar/0001.jpg,test,a\ntrain-000.tar/0002.jpg,test,b\n", "is for train"),
        ("../0001.jpg,train,a\n", "does not lie below the root"),
    ],
)
def test_split__by_a_table_that_is_wrong(root: Path, rows: str, words: str):
    (root / "chosen.csv").write_text(f"path,part,label\n{rows}")
    with pytest.raises(DataError, match=words):
        source(root, split="chosen.csv").prepare()


def test_split__a_copy_that_is_no_shard_is_not_kept(root: Path, tmp_path: Path):
    fsspec = pytest.importorskip("fsspec")
    system = fsspec.filesystem("memory")
    for file in root.glob("*.tar"):
        system.pipe_file(
            f"/cut/{file.name}", file.read_bytes()[: 5000 if file.name == "test-000.tar" else None]
        )
    cache = tmp_path / "cache"
    with pytest.raises(DataError, match="cut") as error:
        source("memory://cut", cache=str(cache)).prepare()
    assert error.value.where == "memory:///cut/test-000.tar"
    system.pipe_file("/cut/test-000.tar", (root / "test-000.tar").read_bytes())
    assert len(source("memory://cut", cache=str(cache)).split("test")) == 8
