"""A cache of the k largest class probabilities: what a row takes, what comes back, what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeproof_configs.errors import DataError
from edgeproof_data.cache import CacheKey, CacheWriter, EmbeddingCache, StaleCacheError, TopK, TopKRows
from edgeproof_data.cache.layout import MANIFEST
from edgeproof_data.folders import list_images
from edgeproof_data.sets import ImageSet, unlabelled

COUNT = 70


@pytest.fixture
def images(tmp_path: Path) -> ImageSet:
    root = tmp_path / "photos"
    root.mkdir()
    for number in range(COUNT):
        (root / f"{number:03d}.jpg").write_bytes(f"photo {number}".encode())
    return unlabelled(root, list_images(root))


def key(k: int, classes: int) -> CacheKey:
    return CacheKey({"kind": "test"}, None, output=TopKRows(k, classes).output(), normalised=False)


def largest(k: int, classes: int, scale: float = 3.0) -> TopK:
    scores = np.random.default_rng(0).standard_normal((COUNT, classes)) * scale
    shares = np.exp(scores - scores.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    ids = np.argsort(-shares, axis=1)[:, :k]
    return TopK(np.take_along_axis(shares, ids, 1).astype(np.float32), ids)


def write(folder: Path, images: ImageSet, rows: TopK, k: int, classes: int) -> EmbeddingCache:
    writer = CacheWriter(folder, key(k, classes), images, classes)
    pending = writer.pending()
    for start in range(0, len(pending), 11):
        chosen = pending[start : start + 11]
        writer.add(chosen, TopK(rows.probabilities[chosen], rows.ids[chosen]))
    return writer.finish()


@pytest.mark.parametrize(
    ("classes", "dtype", "row_bytes"), [(1000, "<u2", 44), (65_536, "<u2", 44), (65_537, "<i4", 64)]
)
def test_top__what_was_stored_in_so_many_bytes(
    tmp_path: Path, images: ImageSet, classes: int, dtype: str, row_bytes: int
) -> None:
    # 4 k + 4 bytes, with int32 classes 6 k + 4.
    rows = largest(10, classes)
    cache = write(tmp_path / "cache", images, rows, 10, classes)
    stored = np.load(next(cache.folder.glob("rows-*")))
    norms = np.load(next(cache.folder.glob("norms-*")))
    assert stored.dtype["id"].base == np.dtype(dtype)
    assert stored.itemsize + norms.itemsize == row_bytes
    assert (cache.top_k, cache.dim, len(cache)) == (10, classes, COUNT)
    order = np.random.default_rng(1).permutation(COUNT)
    found = cache.top(order)
    assert np.array_equal(found.ids, rows.ids[order])
    np.testing.assert_allclose(found.probabilities, rows.probabilities[order], rtol=2e-3, atol=1e-7)


def test_top__sums_are_not_rounded(tmp_path: Path, images: ImageSet) -> None:
    rows = largest(10, 1000)
    found = write(tmp_path / "some", images, rows, 10, 1000).top(np.arange(COUNT))
    mass = rows.probabilities.sum(axis=1, dtype=np.float64)
    assert 0.1 < mass.min() < 0.9
    np.testing.assert_allclose(found.probabilities.sum(axis=1, dtype=np.float64), mass, atol=5e-7)
    whole = write(tmp_path / "all", images, largest(30, 30), 30, 30).top(np.arange(COUNT))
    np.testing.assert_allclose(whole.probabilities.sum(axis=1, dtype=np.float64), 1, atol=5e-7)


def test_top__a_sure_teacher(tmp_path: Path, images: ImageSet) -> None:
    # All but one probability are below the smallest float16.
    rows = largest(5, 20, scale=300.0)
    found = write(tmp_path / "cache", images, rows, 5, 20).top([0, 1])
    np.testing.assert_allclose(found.probabilities, [[1, 0, 0, 0, 0]] * 2, atol=1e-6)


def test_open__manifest_and_key_say_k_and_temperature(tmp_path: Path, images: ImageSet) -> None:
    cache = write(tmp_path / "cache", images, largest(4, 9), 4, 9)
    told = json.loads((cache.folder / MANIFEST).read_text())["key"]["output"]
    assert told == {"name": "top-k probabilities", "k": 4, "classes": 9, "temperature": 1.0}
    EmbeddingCache.open(cache.folder, key(4, 9))
    with pytest.raises(StaleCacheError, match=r"output\.k is 4, expected 5"):
        EmbeddingCache.open(cache.folder, key(5, 9))
    with pytest.raises(StaleCacheError, match=r"output\.classes is 9, expected 10"):
        EmbeddingCache.open(cache.folder, key(4, 10))
    with pytest.raises(StaleCacheError, match=r"output\.name is 'top-k probabilities', expected none"):
        EmbeddingCache.open(cache.folder, CacheKey({"kind": "test"}, None, normalised=False))


def test_rows__probabilities_are_no_vectors(tmp_path: Path, images: ImageSet) -> None:
    cache = write(tmp_path / "cache", images, largest(4, 9), 4, 9)
    with pytest.raises(DataError, match=r"only the 4 largest class probabilities.*\n.*\n.*teacher.top_k"):
        cache.rows([0])
    writer = CacheWriter(tmp_path / "dense", CacheKey({}, None), images)
    writer.add(writer.pending(), np.ones((COUNT, 3), np.float32))
    with pytest.raises(ValueError, match="vectors"):
        writer.finish().top([0])


def test_writer__goes_on_and_takes_over(tmp_path: Path, images: ImageSet) -> None:
    rows = largest(4, 9)
    cut = CacheWriter(tmp_path / "cache", key(4, 9), images, 9)
    part = cut.pending()[:32]
    cut.add(part, TopK(rows.probabilities[part], rows.ids[part]))
    assert len(CacheWriter(tmp_path / "cache", key(4, 9), images, 9).pending()) == COUNT - 32
    cache = write(tmp_path / "cache", images, rows, 4, 9)
    once = write(tmp_path / "once", images, rows, 4, 9)
    assert {f.name: f.read_bytes() for f in cache.folder.iterdir()} == {
        f.name: f.read_bytes() for f in once.folder.iterdir()
    }
    images.file(3).write_bytes(b"another photo")
    again = CacheWriter(tmp_path / "cache", key(4, 9), images, 9)
    assert again.pending().tolist() == [3]
    again.add([3], TopK(rows.probabilities[[5]], rows.ids[[5]]))
    found = again.finish().top(np.arange(COUNT))
    assert np.array_equal(found.ids[3], rows.ids[5])
    assert np.array_equal(np.delete(found.ids, 3, 0), np.delete(rows.ids, 3, 0))
    # Another k is another cache.
    assert len(CacheWriter(tmp_path / "cache", key(3, 9), images, 9).pending()) == COUNT


def test_writer__refuses_what_does_not_fit(tmp_path: Path, images: ImageSet) -> None:
    rows, writer = largest(4, 9), CacheWriter(tmp_path / "cache", key(4, 9), images, 9)
    one = TopK(rows.probabilities[:1], rows.ids[:1])
    with pytest.raises(ValueError, match=r"expected probabilities \(1, 4\), got \(1, 3\)"):
        writer.add([0], TopK(one.probabilities[:, :3], one.ids[:, :3]))
    with pytest.raises(ValueError, match="classes from 0 to 8"):
        writer.add([0], replace(one, ids=one.ids + 9))
    with pytest.raises(DataError, match="class probabilities of 1 image is NaN"):
        writer.add([0], replace(one, probabilities=one.probabilities * np.nan))
    with pytest.raises(ValueError, match="k of 1 to 9"):
        TopKRows(10, 9)
