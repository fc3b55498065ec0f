from __future__ import annotations

import csv
import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.data.search.knn_server import Handler, service, true_answer

from edgeproof_data.kinds.webdataset import WebDataset
from edgeproof_data.search.collection import CARD, Collection
from edgeproof_data.sets import unlabelled

Run = Callable[..., tuple[int, str, str]]


def rows(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


STORED = "{kind: stored, files: [{embeddings: images.npy, index: index.csv}]}"


@pytest.fixture
def words(photos: Path) -> tuple[Path, Path]:
    """Return the names of the classes, and their embeddings."""
    return photos / "labels.txt", photos / "text.npy"


@pytest.fixture
def collection(photos: Path, tmp_path: Path, edgeproof: Run) -> Path:
    out = tmp_path / "collection"
    code, told, err = edgeproof("data", "index", photos, out, "--teacher", STORED)
    assert code == 0, err
    assert "33 images" in told
    assert "searched exactly" in told
    return out


def test_search__words_find_their_class(
    collection: Path, words: tuple[Path, Path], tmp_path: Path, edgeproof: Run
) -> None:
    out = tmp_path / "found.csv"
    code, told, err = edgeproof(
        "data", "search", collection, words[0], out, "--text", words[1], "--per-prompt", 4, "--floor", 0.1
    )
    assert code == 0, err
    assert "no safety tags came with these images" in told
    found = rows(out)
    assert len(found) == 12
    right = [row["path"].split("/")[1].replace("_", " ") == row["prompt"] for row in found]
    assert np.mean(right) > 0.9
    scores = [float(row["score"]) for row in found if row["prompt"] == found[0]["prompt"]]
    assert scores == sorted(scores, reverse=True)


def test_search__append_takes_no_image_twice(
    collection: Path, words: tuple[Path, Path], tmp_path: Path, edgeproof: Run
) -> None:
    out = tmp_path / "found.csv"
    call = ("data", "search", collection, words[0], out, "--text", words[1], "--per-prompt", 2)
    assert edgeproof(*call)[0] == 0
    first = rows(out)
    code, _, err = edgeproof(*call)
    assert (code, "not overwritten" in err) == (2, True)
    code, told, _ = edgeproof(*call, "--append", "--json")
    assert code == 0
    assert (json.loads(told)["images"], json.loads(told)["earlier"]) == (6, 6)
    both = rows(out)
    assert both[:6] == first
    assert len({row["path"] for row in both}) == 12


def test_search__append_takes_no_twin_of_an_image_that_is_there(tmp_path: Path, edgeproof: Run) -> None:
    pa: Any = pytest.importorskip("pyarrow")
    pq: Any = pytest.importorskip("pyarrow.parquet")
    source, out, found = tmp_path / "published", tmp_path / "collection", tmp_path / "found.csv"
    source.mkdir()
    # The second image is a twin of the first, the third one is not.
    np.save(source / "e_0.npy", np.array([[1, 0.1, 0], [1, 0.12, 0], [1, 0, 0.9]], np.float32))
    pq.write_table(pa.table({"url": [f"http://a/{row}.jpg" for row in range(3)]}), source / "m_0.parquet")
    assert edgeproof("data", "index", source, out)[0] == 0
    (tmp_path / "p.txt").write_text("cat\n")
    np.save(tmp_path / "p.npy", np.array([[1, 0, 0]], np.float32))
    call = ("data", "search", out, tmp_path / "p.txt", found, "--text", tmp_path / "p.npy")
    assert edgeproof(*call, "--per-prompt", 1)[0] == 0
    code, told, err = edgeproof(*call, "--per-prompt", 5, "--append", "--alike", 0.95, "--json")
    assert code == 0, err
    assert json.loads(told)["alike"] == 1
    assert [row["url"] for row in rows(found)] == ["http://a/0.jpg", "http://a/2.jpg"]


def test_search__refusals(collection: Path, words: tuple[Path, Path], tmp_path: Path, edgeproof: Run) -> None:
    out = tmp_path / "found.csv"
    base = ("data", "search", collection, words[0], out)
    text = ("--text", words[1])
    wide = tmp_path / "wide.npy"
    np.save(wide, np.ones((3, 7), np.float32))
    cases: list[tuple[tuple[object, ...], int, str]] = [
        (base, 2, "by which teacher?"),
        ((*base, *text, "--safety", "strict"), 1, "came without safety tags"),
        ((*base, *text, "--safety", "some"), 2, "unknown --safety"),
        ((*base, *text, "--floor", 1.5), 1, "nothing in this collection reaches"),
        ((*base, *text, "--index-name", "x"), 2, "--index-name has no effect"),
        ((*base, "--text", wide), 1, "queries of 7 values"),
        ((*base, *text, "--teacher", "{kind: stored}"), 2, "which embeds the words?"),
        ((*base[:3], tmp_path / "no.txt", out), 2, "no such file of prompts"),
        (("data", "search", tmp_path / "no", words[0], out, *text), 2, "no such collection"),
        (("data", "search", tmp_path, words[0], out, *text), 1, "no finished collection"),
        ((*base, "--teacher", "{kind: nothing}"), 2, "unknown teacher kind"),
        ((*base, "--teacher", "open_clip"), 2, "names no kind"),
    ]
    for arguments, exit_code, what in cases:
        code, _, err = edgeproof(*arguments)
        assert (code, what in err) == (exit_code, True), err
    assert not out.exists()


def test_index__again_embeds_only_what_is_new_and_half_a_collection_does_not_count(
    collection: Path, photos: Path, edgeproof: Run
) -> None:
    before = Collection.open(collection)
    card = (collection / CARD).read_text()
    (collection / CARD).unlink()
    again = ("data", "index", photos, collection, "--teacher", STORED)
    assert edgeproof(*again)[0] == 0
    assert (collection / CARD).read_text() == card
    assert edgeproof(*again, "--index", "ivf")[0] == 0
    figures = Collection.open(collection).figures
    assert figures is not None
    assert figures.recall >= 0.95
    assert (Collection.open(collection).names, len(before)) == (before.names, 33)


def test_index__published_embeddings_with_safety_tags(tmp_path: Path, edgeproof: Run) -> None:
    pa: Any = pytest.importorskip("pyarrow")
    pq: Any = pytest.importorskip("pyarrow.parquet")
    source, out = tmp_path / "laion", tmp_path / "collection"
    (source / "img_emb").mkdir(parents=True)
    (source / "metadata").mkdir()
    vectors = np.eye(4, dtype=np.float16)[[0, 0, 1, 1, 1]] + 0.01
    np.save(source / "img_emb" / "img_emb_0.npy", vectors)
    urls = [f"http://a/{row}.jpg" for row in range(5)]
    table = pa.table({"URL": urls, "NSFW": ["UNLIKELY", "NSFW", "UNSURE", "UNLIKELY", None]})
    pq.write_table(table, source / "metadata" / "metadata_0.parquet")
    code, _, err = edgeproof("data", "index", source, out, "--teacher", "{kind: none}")
    assert (code, "a teacher has no effect" in err) == (2, True)
    assert edgeproof("data", "index", source, out)[0] == 0
    prompts, text = tmp_path / "p.txt", tmp_path / "p.npy"
    prompts.write_text("cat\ndog\n")
    np.save(text, np.eye(4, dtype=np.float32)[:2])
    for level, expected in (("tagged", "0 2 3 4"), ("strict", "0 3"), ("off", "0 1 2 3 4")):
        found = tmp_path / f"{level}.csv"
        call = ("data", "search", out, prompts, found, "--text", text, "--safety", level, "--margin", 0.1)
        assert edgeproof(*call)[0] == 0
        places = sorted(row["url"].rpartition("/")[2][0] for row in rows(found))
        assert places == expected.split()
    (out / "safety.npy").unlink()
    code, _, err = edgeproof("data", "search", out, prompts, tmp_path / "x.csv", "--text", text)
    assert (code, "the safety tags are missing" in err) == (1, True)
    assert edgeproof("data", "index", source, out)[0] == 0
    assert edgeproof("data", "search", out, prompts, tmp_path / "x.csv", "--text", text)[0] == 0


def test_search__by_images_and_by_another_teacher(photos: Path, tmp_path: Path, edgeproof: Run) -> None:
    """A live teacher embeds the collection and the images that are searched for."""
    timm, safetensors = pytest.importorskip("timm"), pytest.importorskip("safetensors.torch")
    model = timm.create_model("test_resnet", pretrained=False)
    safetensors.save_file(model.state_dict(), tmp_path / "w.safetensors")
    teacher = f"{{kind: timm, model: test_resnet, weights: {tmp_path / 'w.safetensors'}}}"
    out, found = tmp_path / "collection", tmp_path / "found.csv"
    code, _, err = edgeproof("data", "index", photos / "train", out, "--teacher", teacher)
    assert code == 0, err
    one = photos / "train" / "red_square" / "a.03.png"
    assert edgeproof("data", "search", out, one, found, "--teacher", teacher, "--per-prompt", 3)[0] == 0
    assert rows(found)[0] == {
        "path": "red_square/a.03.png",
        "prompt": "a.03.png",
        "score": "1.000000",
        "margin": "",
    }
    shards = tmp_path / "shards"
    shards.mkdir()
    with tarfile.open(shards / "000.tar", "w") as archive:
        for place, file in enumerate(sorted((photos / "train").rglob("*.png"))):
            archive.add(file, f"{place:03d}.png")
    whole, again = Collection.open(out), tmp_path / "of_shards"
    assert edgeproof("data", "index", shards, again, "--teacher", teacher)[0] == 0
    np.testing.assert_array_equal(
        Collection.open(again).cache.rows(np.arange(24)), whole.cache.rows(np.arange(24))
    )
    assert Collection.open(again).names[3] == "000.tar/003.png"
    found.unlink()
    assert edgeproof("data", "search", out, photos / "test", found, "--teacher", teacher)[0] == 0
    assert {row["prompt"] for row in rows(found)} == {"blue square", "green square", "red square"}
    code, _, err = edgeproof("data", "search", out, one, tmp_path / "o.csv", "--teacher", STORED)
    assert code in (1, 2), err
    assert not (tmp_path / "o.csv").exists()


def test_search__service_resumes_and_appends(tmp_path: Path, edgeproof: Run) -> None:
    prompts, out = tmp_path / "p.txt", tmp_path / "found.csv"
    prompts.write_text("cat\nbadger\n")

    well: list[bool] = []

    def breaks(handler: Handler, path: str, body: dict[str, Any]) -> None:
        if body.get("text") == "badger" and not well:
            handler.send(b"", 500)
        else:
            true_answer(handler, path, body)

    call = (prompts, out, "--per-prompt", 3, "--retries", 0, "--floor", 0.2)
    with service(breaks) as (url, asked):
        code, _, err = edgeproof("data", "search", url, *call)
        assert (code, "does not answer: HTTP 500" in err) == (1, True)
        assert not out.exists()
        kept = sorted((tmp_path / "found.csv.parts").iterdir())
        assert len(kept) == 1
        # It is well again: only the other prompt is asked for.
        asked.clear()
        well.append(True)
        assert edgeproof("data", "search", url, *call)[0] == 0
        assert {body.get("text") for _, body in asked} == {"badger"}
        assert len(rows(out)) == 6
        out.unlink()
    assert edgeproof("data", "search", "ftp://a", *call)[0] == 2
    with service() as (url, asked):
        assert edgeproof("data", "search", url, *call, "--alike", 0.95)[0] == 0
        assert [body["deduplicate"] for _, body in asked] == [True, True]
        found = rows(out)
        assert [(row["prompt"], row["url"].rpartition("/")[2]) for row in found[:2]] == [
            ("cat", "3000.jpg"),
            ("cat", "3001.jpg"),
        ]
        assert len(found) == 6
        assert not (tmp_path / "found.csv.parts").exists()
        prompts.write_text("lynx\n")
        assert edgeproof("data", "search", url, *call, "--append")[0] == 0
        assert len(rows(out)) == 9
        code, _, err = edgeproof("data", "search", url, *call, "--append", "--margin", 0.1)
        assert (code, "--margin has no effect with a service" in err) == (2, True)


def test_index__shards_with_the_embeddings_that_lie_beside_them(
    photos: Path, tmp_path: Path, edgeproof: Run
) -> None:
    """What is found in shards becomes the table of a recipe by `data import`."""
    pytest.importorskip("pyarrow")
    from edgeproof_data.exchange.parts import Part
    from edgeproof_data.exchange.shards import write_shards

    listed = [row["path"] for row in rows(photos / "index.csv")]
    vectors = np.load(photos / "images.npy").astype(np.float32)
    part = Part("train", unlabelled(photos, listed), None, vectors.shape[1], lambda at: vectors[at])
    shards, out, found = tmp_path / "shards", tmp_path / "collection", tmp_path / "found.csv"
    write_shards(shards, [part], 10)
    code, told, err = edgeproof("data", "index", shards, out)
    assert code == 0, err
    assert f"{len(listed)} images" in told
    words = ("--text", photos / "text.npy", "--per-prompt", 4, "--floor", 0.1)
    assert edgeproof("data", "search", out, photos / "labels.txt", found, *words)[0] == 0
    assert {row["path"].partition("/")[0] for row in rows(found)} <= {
        file.name for file in shards.glob("*.tar")
    }
    code, _, err = edgeproof("data", "filter", shards, tmp_path / "kept.csv", "--manifest", found)
    assert (code, "data import" in err) == (2, True)
    call = ("data", "import", found, tmp_path / "kept.csv", "--root", shards, "--label-column", "prompt")
    assert edgeproof(*call)[0] == 0
    data = WebDataset(
        WebDataset.Config(root=str(shards), split=str(tmp_path / "kept.csv"), cache=str(tmp_path / "c"))
    )
    assert sum(len(data.split(name)) for name in ("train", "val", "test")) == len(rows(found)) == 12
    assert data.class_names == tuple(sorted({row["prompt"] for row in rows(found)}))


def test_index__shards_and_photos_in_one_folder(photos: Path, tmp_path: Path, edgeproof: Run) -> None:
    both = tmp_path / "both"
    both.mkdir()
    shutil.copy(next(photos.rglob("*.png")), both / "a.png")
    with tarfile.open(both / "a.tar", "w") as archive:
        archive.add(both / "a.png", "a.png")
    code, _, err = edgeproof("data", "index", both, tmp_path / "collection", "--teacher", STORED)
    assert (code, "holds shards and photos" in err) == (2, True)
