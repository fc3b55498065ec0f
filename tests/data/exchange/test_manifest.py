from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeproof_configs.errors import DataError, UsageError
from edgeproof_data.exchange.manifest import Columns, Manifest, Row, read_manifest

MakeImages = Callable[..., Path]


@pytest.fixture
def root(make_images: MakeImages) -> Path:
    return make_images(*(f"{kind}/{n} é.jpg" for kind in ("red_fox", "owl") for n in range(10)))


def read(source: Path, root: Path, columns: Columns | None = None) -> Manifest:
    return read_manifest(source, root, columns or Columns(), 0.2, 0)


def test_read_manifest__folder(root: Path):
    rows = read(root, root).rows
    assert len(rows) == 20
    assert {row.label for row in rows} == {"red fox", "owl"}
    assert [sum(row.part == part for row in rows) for part in ("train", "val", "test")] == [16, 0, 4]
    assert [sum(row.part == "test" and row.label == name for row in rows) for name in ("red fox", "owl")] == [
        2,
        2,
    ]
    inner = read(root / "owl", root).rows
    assert inner[0].path == "owl/0 é.jpg"
    assert inner[0].label == ""


def test_read_manifest__folder_with_parts(make_images: MakeImages):
    root = make_images("train/a/1.jpg", "train/b/2.jpg", "val/a/3.jpg", "test/b/4.jpg")
    assert read(root, root).rows == [
        Row("test/b/4.jpg", "test", "b"),
        Row("train/a/1.jpg", "train", "a"),
        Row("train/b/2.jpg", "train", "b"),
        Row("val/a/3.jpg", "val", "a"),
    ]


def test_read_manifest__csv_with_parts_and_captions(root: Path):
    file = root / "t.csv"
    file.write_text("split,file_name,text,class\ntraining,owl/1 é.jpg,an owl,owl\nvalid,owl/2 é.jpg,,owl\n")
    assert read(file, root).rows == [
        Row("owl/1 é.jpg", "train", "owl", ("an owl",)),
        Row("owl/2 é.jpg", "val", "owl"),
    ]
    assert read(file, root, Columns(label="text")).rows[0].label == "an owl"


def test_read_manifest__jsonl(root: Path):
    file = root / "t.jsonl"
    rows = [{"path": str(root / f"owl/{n} é.jpg"), "label": n % 2, "captions": ["x", "y"]} for n in range(8)]
    file.write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    found = read(file, root).rows
    assert found[1].path == "owl/1 é.jpg"
    assert (found[1].label, found[1].captions) == ("1", ("x", "y"))


def coco(**changes: Any) -> dict[str, Any]:
    plain = {
        "images": [{"id": n, "file_name": f"owl/{n} é.jpg"} for n in range(4)],
        "categories": [{"id": 7, "name": "barn_owl"}, {"id": 9, "name": "tawny owl"}],
        "annotations": [{"image_id": n, "category_id": 7 + 2 * (n % 2)} for n in range(4)]
        + [{"image_id": 0, "caption": "an owl at night"}],
    }
    return plain | changes


def test_read_manifest__coco(root: Path):
    file = root / "t.json"
    file.write_text(json.dumps(coco()))
    found = read(file, root).rows
    assert [row.label for row in found] == ["barn owl", "tawny owl"] * 2
    assert found[0].captions == ("an owl at night",)


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (coco(annotations=[{"image_id": 77, "category_id": 7}]), "not in this file"),
        (coco(annotations=[{"image_id": 1, "category_id": 1}]), "not in this file"),
        (
            coco(annotations=[{"image_id": 1, "category_id": c} for c in (7, 9)]),
            "1 image of several categories",
        ),
        (coco(images=[3]), "this is not COCO"),
        ([], "this is not COCO"),
        ({"images": []}, "this is not COCO"),
    ],
)
def test_read_manifest__coco_that_is_wrong(root: Path, told: Any, words: str):
    file = root / "t.json"
    file.write_text(json.dumps(told))
    with pytest.raises(DataError, match=words):
        read(file, root)


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("path,label\n../x.jpg,a\n", DataError, "leads out"),
        ("path,label\n/etc/passwd,a\n", DataError, "outside of --root"),
        ("path,label\nowl/1 é.jpg,a\nowl/1 é.jpg,b\n", DataError, "there twice"),
        ("path,label\nowl/99.jpg,a\n", DataError, "1 image missing"),
        ("path,label\n,a\n", DataError, "without a path"),
        ("path,label,part\nowl/1 é.jpg,a,holdout\n", DataError, "unknown parts: holdout"),
        ("name,label\nowl/1 é.jpg,a\n", UsageError, "no column of paths; there are: name, label"),
        ("path,label\n", DataError, "no image in it"),
        ("\ufeffpath\nowl/1 é.jpg\nowl/2 é.jpg\n", None, ""),
    ],
)
def test_read_manifest__csv_that_is_wrong(root: Path, text: str, error: Any, words: str):
    file = root / "t.csv"
    file.write_text(text, encoding="utf-8")
    if error is None:
        assert len(read(file, root).rows) == 2
        return
    with pytest.raises(error, match=words):
        read(file, root)


@pytest.mark.parametrize(
    "line", [b"{", b"[1]", b"\xff\xfe", b'{"path": 3}', b'{"path": "owl/1", "label": {}}']
)
def test_read_manifest__jsonl_that_is_wrong(root: Path, line: bytes):
    file = root / "t.jsonl"
    file.write_bytes(line + b"\n")
    with pytest.raises(DataError):
        read(file, root)


def test_read_manifest__a_column_that_is_not_there(root: Path):
    file = root / "t.csv"
    file.write_text("path\nowl/1 é.jpg\n")
    with pytest.raises(UsageError, match="no column 'kind'"):
        read(file, root, Columns(label="kind"))
    with pytest.raises(UsageError, match="no folder"):
        read(root / "owl" / "1 é.jpg", root)


def test_read_manifest__table_with_embeddings(root: Path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    file = root / "t.parquet"
    rows = np.arange(12, dtype=np.float32).reshape(4, 3) + 1
    table = {"path": [f"owl/{n} é.jpg" for n in range(4)], "label": list("abab"), "embedding": rows.tolist()}
    pq.write_table(pa.table(table), file)
    found = read(file, root)
    assert found.embeddings is not None
    np.testing.assert_array_equal(found.embeddings, rows)
    for bad in (np.nan, np.inf):
        rows[2, 0] = bad
        pq.write_table(pa.table(table | {"embedding": rows.tolist()}), file)
        with pytest.raises(DataError, match="1 embedding zero or not finite: owl/2"):
            read(file, root)


def test_read_manifest__tables_beside_shards_of_several_types_and_widths(root: Path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    tables = root / "tables"
    tables.mkdir()

    def write(name: str, first: int, kind: str, dim: int) -> None:
        values = pa.array([[float(first + 1)] * dim] * 2, pa.list_(pa.from_numpy_dtype(np.dtype(kind)), dim))
        paths = [f"owl/{n} é.jpg" for n in (first, first + 1)]
        pq.write_table(pa.table({"path": paths, "embedding": values}), tables / name)

    write("a.parquet", 0, "float16", 3)
    write("b.parquet", 2, "float32", 3)
    found = read(tables, root)
    assert found.embeddings is not None
    assert found.embeddings.dtype == np.float32
    assert found.embeddings[:, 0].tolist() == [1, 1, 3, 3]
    write("c.parquet", 4, "float32", 4)
    with pytest.raises(DataError, match="embeddings of 3, 4 values"):
        read(tables, root)
    pq.write_table(pa.table({"path": ["owl/4 é.jpg"]}), tables / "c.parquet")
    with pytest.raises(DataError, match="some rows only"):
        read(tables, root)


@pytest.mark.parametrize("first", ["path,label", "foo,bar"])
def test_read_manifest__a_csv_row_with_more_values_than_names(root: Path, first: str):
    source = root / "rows.csv"
    source.write_text(f"{first}\na/0.jpg,a cat, sitting\n")
    with pytest.raises(DataError, match="3 values, 2 names in the first line") as error:
        read_manifest(source, root, Columns(), 0.5, 0)
    assert error.value.where == f"{source}:2"
