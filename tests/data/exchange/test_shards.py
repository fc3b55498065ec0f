from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeproof_configs.errors import UsageError
from edgeproof_data.exchange import shards as shards_module
from edgeproof_data.exchange.columnar import read_batches
from edgeproof_data.exchange.parts import Part
from edgeproof_data.exchange.shards import write_shards
from edgeproof_data.kinds.webdataset import WebDataset
from edgeproof_data.sets import ImageSet

MakeImages = Callable[..., Path]
COUNT, DIM = 20, 4


@pytest.fixture
def parts(make_images: MakeImages) -> list[Part]:
    names = {part: tuple(f"{part}/c{n % 2}/{n} ä.jpg" for n in range(COUNT)) for part in ("train", "test")}
    root = make_images(*names["train"], *names["test"])
    rows = np.arange(COUNT * DIM, dtype=np.float32).reshape(COUNT, DIM)
    return [
        Part(
            part,
            ImageSet(root, paths, np.arange(COUNT) % 2, ("c0", "c1")),
            [[f"caption {n}", "b"] for n in range(COUNT)],
            DIM,
            lambda at: rows[at],
        )
        for part, paths in names.items()
    ]


def contents(folder: Path) -> dict[str, str]:
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(folder.iterdir())}


def test_write_shards__can_be_trained_on(parts: list[Part], tmp_path: Path):
    files = write_shards(tmp_path / "out", parts, 8)
    assert [file.name for file in files] == [f"{p}-{n:06d}.tar" for p in ("train", "test") for n in range(3)]
    data = WebDataset(
        WebDataset.Config(
            root=str(tmp_path / "out"), classes="classes.txt", captions="json.captions", val=0.25
        )
    )
    data.prepare()
    assert data.class_names == ("c0", "c1")
    kept = data.split("test")
    told = {parts[1].images.read(n): (int(n % 2), f"caption {n}") for n in range(COUNT)}
    captions = data.captions("test")
    assert captions is not None
    found = {kept.read(n): (int(kept.labels[n]), captions[n][0]) for n in range(COUNT)}
    assert found == told
    assert all(hashlib.sha256(kept.read(n)).hexdigest()[:24] in path for n, path in enumerate(kept.paths))


def test_write_shards__embeddings_beside_are_in_the_order_of_the_samples(parts: list[Part], tmp_path: Path):
    pytest.importorskip("pyarrow")
    write_shards(tmp_path / "out", parts, 8, dtype="float32")
    with tarfile.open(tmp_path / "out" / "train-000001.tar") as archive:
        names = [name for name in archive.getnames() if name.endswith(".jpg")]
        jsons = [name for name in archive.getnames() if name.endswith(".json")]
        handles = [archive.extractfile(name) for name in jsons]
        numbers = [int(Path(json.load(handle)["path"]).stem.split()[0]) for handle in handles if handle]
    (batch,) = read_batches(tmp_path / "out" / "train-000001.parquet")
    assert batch["path"] == [f"train-000001.tar/{name}" for name in names]
    assert batch["embedding"][:, 0].tolist() == [DIM * n for n in numbers]


def test_write_shards__the_same_bytes_after_a_kill(
    parts: list[Part], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    write_shards(tmp_path / "whole", parts, 6)
    written: list[str] = []
    add = shards_module._add

    def stopping(tar: tarfile.TarFile, name: str, data: bytes) -> None:
        written.append(name)
        if len(written) == 50:
            raise KeyboardInterrupt
        add(tar, name, data)

    with monkeypatch.context() as patched:
        patched.setattr(shards_module, "_add", stopping)
        with pytest.raises(KeyboardInterrupt):
            write_shards(tmp_path / "killed", parts, 6)
    half = contents(tmp_path / "killed")
    assert 0 < len(half) < len(contents(tmp_path / "whole"))
    assert all(contents(tmp_path / "whole")[name] == digest for name, digest in half.items())
    write_shards(tmp_path / "killed", parts, 6)
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


def test_write_shards__the_same_image_twice_has_two_keys(make_images: MakeImages, tmp_path: Path):
    root = make_images("a.jpg")
    (root / "b.jpg").write_bytes((root / "a.jpg").read_bytes())
    images = ImageSet(root, ("a.jpg", "b.jpg"), np.full(2, -1), ())
    (file,) = write_shards(tmp_path / "out", [Part("train", images)], 10)
    with tarfile.open(file) as archive:
        names = [name for name in archive.getnames() if name.endswith(".jpg")]
    assert len(set(names)) == 2
    assert names[1] == names[0].replace(".jpg", "-2.jpg")


def test_write_shards__another_folder_is_not_touched(parts: list[Part], tmp_path: Path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "precious.txt").write_text("x")
    with pytest.raises(UsageError, match="something else"):
        write_shards(tmp_path / "mine", parts, 8)
    write_shards(tmp_path / "out", parts, 8)
    with pytest.raises(UsageError, match="other shards"):
        write_shards(tmp_path / "out", parts, 9)


def test_write_shards__other_labels_captions_or_embeddings_are_other_shards(
    parts: list[Part], tmp_path: Path
):
    pytest.importorskip("pyarrow")
    parts = [replace(part, embedded_by="a teacher") for part in parts]
    write_shards(tmp_path / "out", parts, 8)
    relabelled = replace(parts[0].images, labels=1 - parts[0].images.labels)
    for changed in (
        replace(parts[0], embedded_by="another one"),
        replace(parts[0], images=relabelled),
        replace(parts[0], images=replace(parts[0].images, class_names=("c1", "c0"))),
        replace(parts[0], captions=[["other"]] * COUNT),
    ):
        with pytest.raises(UsageError, match="other shards"):
            write_shards(tmp_path / "out", [changed, parts[1]], 8)
    assert len(write_shards(tmp_path / "out", parts, 8)) == 6


def test_write_shards__killed_before_anything_was_written(parts: list[Part], tmp_path: Path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".shards.json.abcdefgh").write_text('{"for')
    write_shards(tmp_path / "out", parts, 8)
    write_shards(tmp_path / "whole", parts, 8)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
