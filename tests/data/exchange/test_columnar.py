from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeproof_configs.errors import DataError, UsageError
from edgeproof_data.exchange.columnar import FloatName, read_batches, write_table
from edgeproof_data.exchange.parts import Part
from edgeproof_data.sets import ImageSet

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


def part(name: str, count: int, dim: int | None = 3, scale: float = 1.0) -> Part:
    labels = np.arange(count) % 3 - 1
    images = ImageSet(Path("/x"), tuple(f"{name}/é {n}.jpg" for n in range(count)), labels, ("a", "b"))
    captions = [[f"one {n}"] * (n % 3) for n in range(count)]
    if dim is None:
        return Part(name, images, captions)
    rows = scale * np.random.default_rng(0).standard_normal((count, dim)).astype(np.float32)
    return Part(name, images, captions, dim, lambda at: rows[at])


@pytest.mark.parametrize("suffix", [".parquet", ".arrow", ".feather"])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_write_table__comes_back(tmp_path: Path, suffix: str, dtype: FloatName):
    parts = [part("train", 10_000), part("test", 5)]
    file = tmp_path / f"t{suffix}"
    assert write_table(file, parts, dtype) == 10_005
    batches = list(read_batches(file))
    paths = [path for batch in batches for path in batch["path"]]
    assert paths == [path for one in parts for path in one.images.paths]
    assert [word for batch in batches for word in batch["label"]][:4] == [None, "a", "b", None]
    assert [words for batch in batches for words in batch["captions"]][2] == ["one 2", "one 2"]
    assert [word for batch in batches for word in batch["part"]][-1] == "test"
    rows = np.concatenate([batch["embedding"] for batch in batches])
    reader = parts[0].embeddings
    assert reader is not None
    assert rows.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(rows[:10_000], reader(np.arange(10_000)).astype(dtype))


def test_write_table__is_a_fixed_size_list_that_others_read(tmp_path: Path):
    write_table(tmp_path / "t.parquet", [part("train", 4)])
    schema = pq.read_schema(tmp_path / "t.parquet")
    assert schema.field("embedding").type == pa.list_(pa.float16(), 3)
    write_table(tmp_path / "u.parquet", [part("train", 4, None)])
    assert pq.read_schema(tmp_path / "u.parquet").names == ["path", "part", "label", "captions"]


def test_write_table__refusals_leave_no_file(tmp_path: Path):
    with pytest.raises(DataError, match="do not fit into float16"):
        write_table(tmp_path / "t.parquet", [part("train", 4, scale=1e6)])
    with pytest.raises(UsageError, match="different widths"):
        write_table(tmp_path / "t.parquet", [part("train", 4), part("test", 4, 5)])
    with pytest.raises(UsageError, match="a table ends in"):
        write_table(tmp_path / "t.txt", [part("train", 4)])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("column", "words"),
    [
        (lambda: pa.array([[1.0, 2.0], [3.0]]), "embeddings of 1, 2 values"),
        (lambda: pa.array([[1, 2], [3, 4]]), "expected lists of floating-point numbers"),
        (lambda: pa.array([[1.0, 2.0], None]), "with gaps"),
        (lambda: pa.array([[1.0, 2.0], [None, 1.0]]), "with gaps"),
        (lambda: pa.array([1.0, 2.0]), "expected lists"),
        (lambda: pa.array(["a", "b"]), "expected lists"),
    ],
)
def test_read_batches__mixed_embeddings_are_refused(tmp_path: Path, column: Any, words: str):
    pq.write_table(pa.table({"path": ["a", "b"], "embedding": column()}), tmp_path / "t.parquet")
    with pytest.raises(DataError, match=words):
        list(read_batches(tmp_path / "t.parquet"))


@pytest.mark.parametrize("kind", ["float16", "float32", "float64"])
def test_read_batches__lists_of_one_width_are_taken(tmp_path: Path, kind: str):
    values = pa.array([[1.0, 2.0], [3.0, 4.0]], pa.list_(pa.from_numpy_dtype(np.dtype(kind))))
    pq.write_table(pa.table({"path": ["a", "b"], "embedding": values}), tmp_path / "t.parquet")
    (batch,) = read_batches(tmp_path / "t.parquet")
    assert batch["embedding"].dtype == np.dtype(kind)
    assert batch["embedding"].tolist() == [[1.0, 2.0], [3.0, 4.0]]


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
def test_read_batches__a_cut_table(tmp_path: Path, suffix: str):
    file = tmp_path / f"t{suffix}"
    write_table(file, [part("train", 100)])
    file.write_bytes(file.read_bytes()[:-50])
    with pytest.raises(DataError, match="cannot be read"):
        list(read_batches(file))
    with pytest.raises(DataError, match="no such table"):
        list(read_batches(tmp_path / f"none{suffix}"))
