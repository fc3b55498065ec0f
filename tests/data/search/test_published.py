from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeproof_configs.errors import DataError
from edgeproof_data.search.collection import SAFE, UNKNOWN, UNSAFE, UNSURE
from edgeproof_data.search.published import Published, is_published, take_in

pa: Any = pytest.importorskip("pyarrow")
pq: Any = pytest.importorskip("pyarrow.parquet")


def rows(count: int, dim: int = 8, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, dim))


def publish(folder: Path, number: int, vectors: np.ndarray, **columns: list[Any]) -> None:
    """Write a pair of files as clip-retrieval does."""
    for name in ("img_emb", "metadata"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    np.save(folder / "img_emb" / f"img_emb_{number}.npy", vectors)
    columns.setdefault("url", [f"http://example.org/{number}/{row}.jpg" for row in range(len(vectors))])
    pq.write_table(pa.table(columns), folder / "metadata" / f"metadata_{number}.parquet")


def test_take_in__rows_belong_to_their_urls_over_many_files(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for number in (10, 9, 2):
        publish(source, number, rows(3, seed=number).astype(np.float16))
    (source / "text_emb").mkdir()
    np.save(source / "text_emb" / "text_emb_2.npy", rows(3))
    assert is_published(source)
    cache, safety, left_out = take_in(Published.open(source), tmp_path / "cache")
    assert [path.split("/")[3] for path in cache.paths] == ["2"] * 3 + ["9"] * 3 + ["10"] * 3
    expected = np.concatenate([rows(3, seed=number).astype(np.float16) for number in (2, 9, 10)])
    np.testing.assert_allclose(cache.rows(np.arange(9), raw=True), expected, rtol=5e-3, atol=5e-3)
    assert safety is None
    assert not left_out


def test_take_in__safety_tags(tmp_path: Path) -> None:
    publish(tmp_path / "s", 0, rows(4).astype(np.float32), NSFW=["UNLIKELY", "UNSURE", "NSFW", None])
    publish(tmp_path / "s", 1, rows(3, seed=1).astype(np.float32), punsafe=[0.1, 0.7, None])
    _, safety, _ = take_in(Published.open(tmp_path / "s"), tmp_path / "cache")
    assert safety is not None
    assert safety.tolist() == [SAFE, UNSURE, UNSAFE, UNKNOWN, SAFE, UNSAFE, UNKNOWN]


def test_take_in__what_cannot_be_used_is_left_out_and_counted(tmp_path: Path) -> None:
    vectors = rows(6).astype(np.float32)
    vectors[1], vectors[2, 0] = 0, np.nan
    urls = ["http://a/1", "http://a/2", "http://a/3", "http://a/1", None, "http://a/\n4"]
    publish(tmp_path / "s", 0, vectors, url=urls)
    cache, _, left_out = take_in(Published.open(tmp_path / "s"), tmp_path / "cache")
    assert cache.paths == ("http://a/1",)
    assert left_out == {"embedding zero or not finite": 2, "the same name again": 1, "no usable name": 2}


def test_take_in__again_computes_nothing_and_mixed_float_types(tmp_path: Path) -> None:
    publish(tmp_path / "s", 0, rows(3).astype(np.float16))
    publish(tmp_path / "s", 1, rows(3, seed=1).astype(np.float64))
    cache, _, _ = take_in(Published.open(tmp_path / "s"), tmp_path / "cache")
    before = {file.name: file.stat().st_mtime_ns for file in cache.folder.iterdir()}
    take_in(Published.open(tmp_path / "s"), tmp_path / "cache")
    assert before == {file.name: file.stat().st_mtime_ns for file in cache.folder.iterdir()}


def test_take_in__numbers_that_float32_does_not_hold_are_left_out(tmp_path: Path) -> None:
    vectors = rows(4).astype(np.float64)
    vectors[1], vectors[2] = 1e300, 1e-300
    publish(tmp_path / "s", 0, vectors)
    cache, _, left_out = take_in(Published.open(tmp_path / "s"), tmp_path / "cache")
    assert (len(cache), left_out) == (2, {"embedding zero or not finite": 2})


@pytest.mark.parametrize(
    ("column", "words"),
    [
        ([1.0, 2.0], "holds double, expected lists of numbers"),
        (["ab", "cd"], "holds string, expected lists of numbers"),
        ([[1.0], [1.0, 2.0]], "different widths in one column: 1, 2"),
        ([None, [1.0, 2.0]], "different widths in one column: none, 2"),
        ([["a", "b"], ["c", "d"]], "holds no numbers"),
        ([[[1.0], [2.0]], [[1.0], [2.0]]], r"of shape \(2, 2, 1\)"),
        ([], "this table has no row"),
    ],
)
def test_open__a_column_that_holds_something_else(column: list[Any], words: str, tmp_path: Path) -> None:
    table = pa.table({"url": [f"http://a/{row}" for row in range(len(column))], "embedding": column})
    pq.write_table(table, tmp_path / "part-0.parquet")
    with pytest.raises(DataError, match=words):
        Published.open(tmp_path)


def test_take_in__chances_that_are_none_say_nothing(tmp_path: Path) -> None:
    publish(tmp_path / "s", 0, rows(4), punsafe=[0.9, float("nan"), 0.1, 7.0])
    publish(tmp_path / "s", 1, rows(1, seed=1), punsafe=["high"])
    safety = take_in(Published.open(tmp_path / "s"), tmp_path / "cache")[1]
    assert safety is not None
    assert safety.tolist() == [UNSAFE, UNKNOWN, SAFE, UNKNOWN, UNKNOWN]


def test_open__a_column_of_vectors(tmp_path: Path) -> None:
    vectors = rows(4).astype(np.float32)
    table = pa.table({"url": [f"http://a/{row}" for row in range(4)], "embedding": vectors.tolist()})
    pq.write_table(table, tmp_path / "part-0.parquet")
    cache, _, _ = take_in(Published.open(tmp_path), tmp_path / "cache")
    np.testing.assert_allclose(cache.rows(np.arange(4), raw=True), vectors, rtol=5e-3, atol=5e-3)


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (lambda s: publish(s, 1, rows(3, dim=5).astype(np.float32)), "different widths: img_emb_0.npy 8"),
        (lambda s: publish(s, 1, np.ones((3, 8), np.int64)), "expected floating-point embeddings"),
        (lambda s: publish(s, 1, rows(3).astype(np.float32), url=["http://a/1"]), "3 embeddings, 1 rows"),
        (lambda s: publish(s, 1, rows(1).astype(np.float32), name=["x"], url=[1]), "no usable embedding"),
        (lambda s: np.save(s / "img_emb" / "img_emb_1.npy", rows(3)), "do not come in pairs"),
        (lambda s: (s / "img_emb" / "img_emb_0.npy").write_bytes(b"\x93NUMPY"), "not a readable .npy"),
        (lambda s: (s / "metadata" / "metadata_0.parquet").write_bytes(b"PAR1"), "not a readable parquet"),
        (lambda s: publish(s, 1, np.array([1.0, 2.0, 3.0])), r"got float64 of shape \(3,\)"),
        (lambda s: np.save(s / "img_emb_0.npy", rows(3)), "two files of the same number"),
        (lambda s: np.save(s / "img_emb" / "img_emb_0.npy", np.array([{}, {}, {}])), "not a readable .npy"),
    ],
)
def test_open__lies_and_garbage(break_it: Any, words: str, tmp_path: Path) -> None:
    source = tmp_path / "s"
    if words != "no usable embedding":
        publish(source, 0, rows(3).astype(np.float32))
    break_it(source)
    with pytest.raises(DataError, match=words):
        take_in(Published.open(source), tmp_path / "cache")
