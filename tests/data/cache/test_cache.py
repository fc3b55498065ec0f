from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeproof_configs.errors import DataError, EdgeproofError
from edgeproof_data.cache import CacheKey, CacheWriter, EmbeddingCache, StaleCacheError
from edgeproof_data.cache import layout as cache_layout
from edgeproof_data.cache.layout import MANIFEST, Plan
from edgeproof_data.folders import list_images
from edgeproof_data.sets import ImageSet, unlabelled

KEY = CacheKey({"kind": "test", "sha256": "a" * 64}, {"image_size": 32})
COUNT, DIM = 150, 20


@pytest.fixture
def images(tmp_path: Path) -> ImageSet:
    root = tmp_path / "photos"
    for number in range(COUNT):
        file = root / f"class{number % 3}" / f"{number // 3:03d}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(f"photo {number}".encode())
    return unlabelled(root, list_images(root))


@pytest.fixture
def embeddings() -> np.ndarray:
    return (np.random.default_rng(0).standard_normal((COUNT, DIM)) * 7).astype(np.float32)


def fill(writer: CacheWriter, embeddings: np.ndarray, batch: int = 11) -> None:
    pending = writer.pending()
    for start in range(0, len(pending), batch):
        writer.add(pending[start : start + batch], embeddings[pending[start : start + batch]])


def write(folder: Path, images: ImageSet, embeddings: np.ndarray, key: CacheKey = KEY) -> EmbeddingCache:
    writer = CacheWriter(folder, key, images)
    fill(writer, embeddings)
    return writer.finish()


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_rows__unit_and_raw(tmp_path: Path, images: ImageSet, embeddings: np.ndarray):
    cache = write(tmp_path / "cache", images, embeddings)
    chosen = [3, 149, 3, 0]
    rows = cache.rows(chosen)
    assert rows.dtype == np.float32
    assert (len(cache), cache.dim, rows.shape) == (COUNT, DIM, (4, DIM))
    assert np.all(np.sum(unit(rows) * unit(embeddings[chosen]), axis=1) > 1 - 1e-6)
    np.testing.assert_allclose(rows, unit(embeddings[chosen]), atol=3e-4)
    np.testing.assert_allclose(cache.rows(chosen, raw=True), embeddings[chosen], atol=1e-2)
    assert cache.rows([]).shape == (0, DIM)


@pytest.mark.parametrize("indices", [[-1], [COUNT], [[0]]])
def test_rows__numbers_that_are_not_rows(
    tmp_path: Path, images: ImageSet, embeddings: np.ndarray, indices: list[int]
):
    with pytest.raises(ValueError, match="row numbers"):
        write(tmp_path / "cache", images, embeddings).rows(indices)


def test_rows__across_shards(
    tmp_path: Path, images: ImageSet, embeddings: np.ndarray, monkeypatch: pytest.MonkeyPatch
):
    for module in ("layout", "reader", "finish"):
        monkeypatch.setattr(f"edgeproof_data.cache.{module}.ROWS_PER_SHARD", 40)
    cache = write(tmp_path / "cache", images, embeddings)
    assert len(list(cache.folder.glob("rows-*"))) == 4
    order = np.random.default_rng(1).permutation(COUNT)
    np.testing.assert_allclose(cache.rows(order), unit(embeddings[order]), atol=3e-4)
    np.testing.assert_allclose(cache.rows(order, raw=True), embeddings[order], atol=1e-2)


def test_rows__unit_vectors_keep_any_magnitude(tmp_path: Path, images: ImageSet, embeddings: np.ndarray):
    scale = np.logspace(-20, 20, COUNT)[:, None]
    cache = write(tmp_path / "cache", images, (embeddings * scale).astype(np.float32))
    everything = np.arange(COUNT)
    np.testing.assert_allclose(cache.rows(everything), unit(embeddings), atol=3e-4)
    np.testing.assert_allclose(cache.rows(everything, raw=True) / scale, embeddings, atol=2e-2)


def test_find__rows_of_any_subset(tmp_path: Path, images: ImageSet, embeddings: np.ndarray):
    cache = write(tmp_path / "cache", images, embeddings)
    chosen = [140, 7, 33]
    assert cache.find(images.subset(chosen)).tolist() == chosen
    assert cache.paths == images.paths
    assert cache.sha256(5) == hashlib.sha256(images.file(5).read_bytes()).hexdigest()


def test_find__missing_images(tmp_path: Path, images: ImageSet, embeddings: np.ndarray):
    cache = write(tmp_path / "cache", images, embeddings)
    strange = unlabelled(images.root, [*images.paths[:2], *(f"new/{n}.jpg" for n in range(5))])
    with pytest.raises(
        DataError, match=r"5 images without an embedding: new/0.jpg, new/1.jpg, new/2.jpg and 2 more"
    ):
        cache.find(strange)


def test_find__changed_images(tmp_path: Path, images: ImageSet, embeddings: np.ndarray):
    cache = write(tmp_path / "cache", images, embeddings)
    same, other, longer, gone = (images.file(index) for index in range(4))
    same.touch()
    assert cache.find(images).tolist() == list(range(COUNT))
    other.write_bytes(bytes(reversed(other.read_bytes())))
    longer.write_bytes(b"something longer")
    gone.unlink()
    with pytest.raises(DataError) as caught:
        cache.find(images)
    assert caught.value.what.startswith("3 images changed since they were embedded")
    assert all(str(path) in caught.value.what for path in images.paths[1:4])


def test_find__same_photos_copied_elsewhere(tmp_path: Path, images: ImageSet, embeddings: np.ndarray):
    cache = write(tmp_path / "cache", images, embeddings)
    shutil.copytree(images.root, tmp_path / "copy", copy_function=shutil.copyfile)
    assert cache.find(replace(images, root=tmp_path / "copy")).tolist() == list(range(COUNT))


def test_open__another_key(tmp_path: Path, images: ImageSet, embeddings: np.ndarray):
    write(tmp_path / "cache", images, embeddings)
    EmbeddingCache.open(tmp_path / "cache", KEY)
    other = replace(KEY, teacher={"kind": "test", "sha256": "b" * 64}, augmentation="flip")
    with pytest.raises(StaleCacheError) as caught:
        EmbeddingCache.open(tmp_path / "cache", other)
    assert "teacher.sha256 is 'aaaa" in caught.value.what
    assert "augmentation is 'none', expected 'flip'" in caught.value.what


def test_open__nothing_finished(tmp_path: Path, images: ImageSet, embeddings: np.ndarray):
    with pytest.raises(DataError, match="no finished embedding cache"):
        EmbeddingCache.open(tmp_path / "cache")
    fill(CacheWriter(tmp_path / "cache", KEY, images), embeddings)
    with pytest.raises(DataError, match="no finished embedding cache"):
        EmbeddingCache.open(tmp_path / "cache")


def test_open__file_cut(tmp_path: Path, images: ImageSet, embeddings: np.ndarray):
    cache = write(tmp_path / "cache", images, embeddings)
    rows = next(cache.folder.glob("rows-*"))
    os.truncate(rows, rows.stat().st_size // 2)
    with pytest.raises(DataError, match="1 file of this embedding cache missing or cut: rows-"):
        EmbeddingCache.open(tmp_path / "cache")
    assert len(CacheWriter(tmp_path / "cache", KEY, images).pending()) == COUNT


def test_open__format_of_another_version(tmp_path: Path, images: ImageSet, embeddings: np.ndarray):
    cache = write(tmp_path / "cache", images, embeddings)
    manifest = cache.folder / MANIFEST
    manifest.write_text(manifest.read_text().replace('"format": 1', '"format": 0'))
    with pytest.raises(StaleCacheError, match="format 0; this program reads format 1"):
        EmbeddingCache.open(tmp_path / "cache")


def test_open__does_not_read_the_index(tmp_path: Path, images: ImageSet, embeddings: np.ndarray):
    cache = write(tmp_path / "cache", images, embeddings)
    for kind in ("index", "order", "paths"):
        file = next(cache.folder.glob(f"{kind}-*"))
        file.write_bytes(b"\0" * file.stat().st_size)
    assert EmbeddingCache.open(tmp_path / "cache").rows([0]).shape == (1, DIM)


def test_writer__order_and_batches_do_not_matter(tmp_path: Path, images: ImageSet, embeddings: np.ndarray):
    write(tmp_path / "one", images, embeddings)
    writer = CacheWriter(tmp_path / "two", KEY, images)
    for index in np.random.default_rng(0).permutation(COUNT).tolist():
        writer.add([index], embeddings[[index]])
    writer.finish()
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_writer__ranks_share_the_work(tmp_path: Path, images: ImageSet, embeddings: np.ndarray):
    write(tmp_path / "one", images, embeddings)
    writers = [CacheWriter(tmp_path / "two", KEY, images, rank=rank, world=2) for rank in (0, 1)]
    shares = [set(writer.pending().tolist()) for writer in writers]
    assert not shares[0] & shares[1]
    assert shares[0] | shares[1] == set(range(COUNT))
    for writer in writers:
        fill(writer, embeddings)
    writers[0].finish()
    assert len(writers[1].finish()) == COUNT
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_writer__another_rank_is_missing(tmp_path: Path, images: ImageSet, embeddings: np.ndarray):
    writer = CacheWriter(tmp_path / "cache", KEY, images, rank=0, world=2)
    fill(writer, embeddings)
    with pytest.raises(EdgeproofError, match="another process did not finish"):
        writer.finish(patience_seconds=0.1)
    assert not (tmp_path / "cache" / MANIFEST).exists()


def test_writer__resumes_with_another_number_of_processes(
    tmp_path: Path, images: ImageSet, embeddings: np.ndarray
):
    fill(CacheWriter(tmp_path / "cache", KEY, images, rank=1, world=2), embeddings)
    writer = CacheWriter(tmp_path / "cache", KEY, images)
    assert 0 < len(writer.pending()) < COUNT
    fill(writer, embeddings)
    writer.finish()
    write(tmp_path / "one", images, embeddings)
    assert contents(tmp_path / "one") == contents(tmp_path / "cache")


def test_writer__nothing_to_do_the_second_time(tmp_path: Path, images: ImageSet, embeddings: np.ndarray):
    write(tmp_path / "cache", images, embeddings)
    stamps = {file: file.stat().st_mtime_ns for file in (tmp_path / "cache").iterdir()}
    writer = CacheWriter(tmp_path / "cache", KEY, images)
    assert not len(writer.pending())
    writer.finish()
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "cache").iterdir()} == stamps


def test_writer__new_and_changed_images_only(tmp_path: Path, images: ImageSet, embeddings: np.ndarray):
    write(tmp_path / "cache", images, embeddings)
    for name in ("new.jpg", images.paths[40]):
        (images.root / name).write_bytes(f"now {name}".encode())
    images.file(70).touch()
    images.file(9).unlink()
    paths = list_images(images.root)
    now = unlabelled(images.root, paths)
    writer = CacheWriter(tmp_path / "cache", KEY, now)
    assert {paths[index] for index in writer.pending()} == {"new.jpg", images.paths[40]}
    fresh = np.full((2, DIM), 0.5, np.float32)
    writer.add(writer.pending(), fresh)
    cache = writer.finish()
    np.testing.assert_allclose(
        cache.rows(cache.find(now.subset([paths.index("new.jpg")])), raw=True)[0], 0.5, atol=1e-3
    )
    kept = [path for path in paths if path not in ("new.jpg", images.paths[40])]
    before = [images.paths.index(path) for path in kept]
    rows = cache.lookup(kept)
    np.testing.assert_allclose(cache.rows(rows, raw=True), embeddings[before], atol=1e-2)
    assert sorted(contents(cache.folder)) == sorted([MANIFEST, *cache.plan.file_names()])


def test_writer__another_teacher_replaces_the_cache_when_finished(
    tmp_path: Path, images: ImageSet, embeddings: np.ndarray
):
    write(tmp_path / "cache", images, embeddings)
    other = replace(KEY, teacher={"kind": "other"})
    writer = CacheWriter(tmp_path / "cache", other, images)
    assert len(writer.pending()) == COUNT
    fill(writer, -embeddings)
    assert EmbeddingCache.open(tmp_path / "cache").key.teacher["kind"] == "test"
    cache = writer.finish()
    assert cache.key == other
    np.testing.assert_allclose(cache.rows([0]), -unit(embeddings[:1]), atol=3e-4)
    assert sorted(contents(tmp_path / "cache")) == sorted([MANIFEST, *cache.plan.file_names()])


@pytest.mark.parametrize(
    ("value", "word"), [(0.0, "zero"), (np.nan, "NaN or infinite"), (np.inf, "NaN or infinite")]
)
def test_writer__names_the_image_of_an_unusable_embedding(
    tmp_path: Path, images: ImageSet, embeddings: np.ndarray, value: float, word: str
):
    embeddings[4] = value
    writer = CacheWriter(tmp_path / "cache", KEY, images)
    with pytest.raises(DataError, match=f"embedding of 1 image is {word}") as caught:
        writer.add(np.arange(8), embeddings[:8])
    assert caught.value.where == str(images.file(4))
    assert len(writer.pending()) == COUNT


def test_writer__refuses_what_is_not_pending(tmp_path: Path, images: ImageSet, embeddings: np.ndarray):
    writer = CacheWriter(tmp_path / "cache", KEY, images, rank=0, world=2)
    foreign = [index for index in range(COUNT) if index not in writer.pending()]
    writer.add([0], embeddings[:1])
    for indices in ([0], foreign[:1], [COUNT], [1, 1], []):
        with pytest.raises(ValueError, match=r"pending|distinct"):
            writer.add(indices, embeddings[: len(indices)])
    with pytest.raises(ValueError, match=r"expected embeddings \(1, 20\), got \(1, 19\)"):
        writer.add([1], embeddings[:1, :19])
    with pytest.raises(ValueError, match="not added yet"):
        writer.finish()


def test_writer__place_that_cannot_be_written(tmp_path: Path, images: ImageSet):
    (tmp_path / "file").write_text("x")
    with pytest.raises(EdgeproofError, match="cannot write: Not a directory"):
        CacheWriter(tmp_path / "file" / "cache", KEY, images)


def test_plan__parts_cover_every_row():
    for rows in (1, 31, 32, 33, 1649, 123_457, 5_000_000):
        plan = Plan("x", rows)
        covered = np.concatenate([plan.places(part) for part in range(plan.parts)])
        assert np.array_equal(covered, np.arange(rows))
        assert sum(plan.shard_rows(shard) for shard in range(plan.shards)) == rows
        assert plan.rows_per_part <= cache_layout.MOST_ROWS


@pytest.fixture
def small_disk(make_disk: Callable[[str], Path]) -> Path:
    """Return a disk with room for 128 kB."""
    return make_disk("128k")


def test_writer__disk_full(tmp_path: Path, small_disk: Path, images: ImageSet):
    embeddings = np.random.default_rng(0).standard_normal((COUNT, 400)).astype(np.float32)
    writer = CacheWriter(small_disk / "cache", KEY, images)
    with pytest.raises(EdgeproofError, match=r"No space left(.|\n)*free some space"):
        fill(writer, embeddings)
    parts = sorted((small_disk / "cache").glob("*"))
    assert parts
    assert all(file.name.startswith("part-") for file in parts)
    with pytest.raises(DataError, match="no finished embedding cache"):
        EmbeddingCache.open(small_disk / "cache")
    os.system(f"mount -o remount,size=1m {small_disk}")
    again = CacheWriter(small_disk / "cache", KEY, images)
    assert len(again.pending()) < COUNT
    fill(again, embeddings)
    again.finish()
    write(tmp_path / "whole", images, embeddings)
    assert contents(tmp_path / "whole") == contents(small_disk / "cache")


def test_writer__disk_full_while_joining(small_disk: Path, images: ImageSet):
    embeddings = np.random.default_rng(0).standard_normal((COUNT, 220)).astype(np.float32)
    writer = CacheWriter(small_disk / "cache", KEY, images)
    fill(writer, embeddings)
    with pytest.raises(EdgeproofError, match="No space left"):
        writer.finish()
    assert not (small_disk / "cache" / MANIFEST).exists()
    assert not len(CacheWriter(small_disk / "cache", KEY, images).pending())


def test_writer__rows_of_another_cache_beside_its_own(
    tmp_path: Path, images: ImageSet, embeddings: np.ndarray
) -> None:
    known = tmp_path / "known"
    write(known, images.subset(range(100)), embeddings)
    few = images.subset(range(90, 105))
    write(tmp_path / "cache", few, embeddings[90:105])
    wider = images.subset(range(50, 110))
    writer = CacheWriter(tmp_path / "cache", KEY, wider, known=known)
    assert writer.pending().tolist() == [55, 56, 57, 58, 59]
    fill(writer, embeddings[50:110])
    rows = writer.finish().rows(np.arange(60))
    np.testing.assert_allclose(rows, unit(embeddings[50:110]), atol=3e-4)
    other = CacheWriter(tmp_path / "other", replace(KEY, output="patches"), wider, known=known)
    assert len(other.pending()) == 60
