from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgeproof_data.kinds.image_folder import ImageFolder
from edgeproof_data.split_table import read_split

Run = Callable[..., tuple[int, str, str]]
STORED = "{kind: stored, files: [{embeddings: images.npy, index: index.csv}]}"


def rows(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


@pytest.fixture
def folder(photos: Path, tmp_path: Path) -> Path:
    """Return a copy of the pictures with a cut one, twins, and a training image that is in test, too."""
    root = tmp_path / "photos"
    shutil.copytree(photos, root)
    cut = root / "train" / "red_square" / "a.01.png"
    cut.write_bytes(cut.read_bytes()[:100])
    shutil.copy(root / "train" / "blue_square" / "a.00.png", root / "train" / "green_square" / "twin.png")
    shutil.copy(root / "test" / "blue_square" / "a.00.png", root / "train" / "blue_square" / "leak.png")
    return root


@pytest.fixture
def collection(folder: Path, tmp_path: Path, edgeproof: Run) -> Path:
    """Embed all: the twins get the embeddings of their originals; a red one is said to be blue."""
    listed = [row["path"] for row in rows(folder / "index.csv")]
    vectors = np.load(folder / "images.npy")
    place = {path: row for row, path in enumerate(listed)}
    vectors[place["train/red_square/a.05.png"]] = vectors[place["train/blue_square/a.02.png"]]
    copies = {
        "train/green_square/twin.png": "train/blue_square/a.00.png",
        "train/blue_square/leak.png": "test/blue_square/a.00.png",
    }
    np.save(
        folder / "images.npy", np.concatenate([vectors, vectors[[place[one] for one in copies.values()]]])
    )
    with (folder / "index.csv").open("w", newline="") as handle:
        csv.writer(handle).writerows([("path",), *((path,) for path in [*listed, *copies])])
    assert edgeproof("data", "index", folder, tmp_path / "collection", "--teacher", STORED)[0] == 0
    return tmp_path / "collection"


def test_filter__table_reasons_and_leaks(folder: Path, tmp_path: Path, edgeproof: Run) -> None:
    out = tmp_path / "kept.csv"
    before = sorted(file for file in folder.rglob("*"))
    code, told, err = edgeproof("data", "filter", folder, out)
    assert code == 0, err
    assert "32 images stay of 35" in told
    assert "1 of these leaked: train in test" in told
    assert "1 twin with another label" in told
    gone = {row["path"]: (row["reason"], row["detail"]) for row in rows(tmp_path / "kept.removed.csv")}
    assert gone["train/blue_square/leak.png"] == ("same bytes", "test/blue_square/a.00.png")
    assert gone["train/green_square/twin.png"] == ("same bytes", "train/blue_square/a.00.png")
    assert gone["train/red_square/a.01.png"][0] == "corrupt"
    assert len(read_split(out, folder)) == 32
    assert before == sorted(file for file in folder.rglob("*"))
    data = ImageFolder(ImageFolder.Config(root=str(folder), split=str(out)))
    assert len(data.split("test")) == 9
    code, _, err = edgeproof("data", "filter", folder, out)
    assert (code, "not overwritten" in err) == (2, True)


def test_filter__by_meaning_and_words(folder: Path, collection: Path, tmp_path: Path, edgeproof: Run) -> None:
    out = tmp_path / "kept.csv"
    call = ("data", "filter", folder, out, "--collection", collection, "--alike", 0.999, "--agree", "--json")
    code, _, err = edgeproof(*call)
    assert (code, "by which teacher?" in err) == (2, True)
    words = ("--prompts", folder / "labels.txt", "--text", folder / "text.npy")
    code, told, err = edgeproof(*call, *words)
    assert code == 0, err
    found = json.loads(told)
    assert found["reasons"] == {"corrupt": 1, "same bytes": 2, "same meaning": 1}
    (tmp_path / "kept.csv").unlink()
    (tmp_path / "kept.removed.csv").unlink()
    code, told, _ = edgeproof(*call[:6], "--agree", *words, "--json")
    assert code == 0
    assert json.loads(told)["reasons"] == {"corrupt": 1, "same bytes": 2, "nearer to other words": 1}


def test_filter__manifest_parts_links_and_page(
    folder: Path, collection: Path, tmp_path: Path, edgeproof: Run
) -> None:
    manifest, out = tmp_path / "found.csv", tmp_path / "kept.csv"
    search = ("data", "search", collection, folder / "labels.txt", manifest, "--text", folder / "text.npy")
    assert edgeproof(*search)[0] == 0
    page, links = tmp_path / "page.html", tmp_path / "links"
    call = ("data", "filter", folder, out, "--manifest", manifest, "--test", 0.25, "--val", 0.25)
    code, told, err = edgeproof(*call, "--page", page, "--link", links, "--json")
    assert code == 0, err
    found = json.loads(told)
    assert found["reasons"] == {"same bytes": 2}
    assert found["parts"] == {"train": 16, "test": 8, "val": 8}
    assert sum(found["labels"].values()) == 32
    kept = rows(out)
    linked = [file for file in links.rglob("*.png") if file.is_symlink() and file.is_file()]
    assert len(linked) == len(kept) == 32
    assert (links / "train" / "blue square").is_dir()
    html = page.read_text()
    assert "<h3>same bytes (2)</h3>" in html
    assert html.count("data:image/jpeg;base64,") == 32 + 2 * 2
    assert "http" not in html
    code, _, err = edgeproof("data", "filter", folder, tmp_path / "x.csv", "--val", 0.2)
    assert (code, "--val and --test have no effect: these images have parts" in err) == (2, True)


def test_filter__refusals(folder: Path, tmp_path: Path, edgeproof: Run) -> None:
    out = tmp_path / "kept.csv"
    cases = [
        (("--agree",), 2, "known by their embeddings"),
        (("--text", folder / "text.npy"), 2, "words have no effect"),
        (("--smallest", 500), 1, "no image stays"),
        (("--val", 0.6, "--test", 0.5), 2, "leave nothing to train on"),
        (("--manifest", folder / "no.csv"), 1, "no such manifest"),
        (("--manifest", folder / "index.csv"), 1, "no manifest of a search"),
    ]
    for options, exit_code, what in cases:
        code, _, err = edgeproof("data", "filter", folder, out, *options)
        assert (code, what in err) == (exit_code, True), err
    assert edgeproof("data", "filter", tmp_path / "no", out)[0] == 2
    assert not out.exists()


def test_check__meaning_within_and_over_parts(folder: Path, collection: Path, edgeproof: Run) -> None:
    call = ("data", "check", folder, "--collection", collection, "--alike", 0.9999)
    code, told, _ = edgeproof(*call, "--json")
    assert code == 1
    found = json.loads(told)
    assert found["counts"]["alike"] == 3
    assert [sorted(group) for group in found["alike_leaks"]] == [
        ["test/blue_square/a.00.png", "train/blue_square/leak.png"]
    ]
    code, told, _ = edgeproof(*call)
    assert "3 groups with the same meaning" in told
    assert "1 group with the same meaning in several parts" in told
    shutil.copy(folder / "test" / "red_square" / "a.01.png", folder / "train" / "red_square" / "new.png")
    code, _, err = edgeproof(*call)
    assert (code, "1 of 35 images are not in the collection" in err) == (1, True)


def test_filter__names_that_cannot_be_used(photos: Path, tmp_path: Path, edgeproof: Run) -> None:
    code, _, err = edgeproof("data", "filter", photos, tmp_path / "kept.txt")
    assert (code, "kept.csv" in err) == (2, True)
    manifest = tmp_path / "found.csv"
    for path in ("../secret.jpg", "/etc/hostname", "a/../../b.jpg"):
        manifest.write_text(f"path,prompt,score,margin\n{path},a,0.3,0.1\n")
        code, _, err = edgeproof("data", "filter", photos, tmp_path / "kept.csv", "--manifest", manifest)
        assert (code, "1 path of this manifest outside of the folder" in err) == (1, True)
    assert not (tmp_path / "kept.csv").exists()


def test_filter__the_table_is_written_last(photos: Path, tmp_path: Path, edgeproof: Run) -> None:
    (tmp_path / "file").write_text("no folder")
    out = tmp_path / "kept.csv"
    code, _, err = edgeproof("data", "filter", photos, out, "--page", tmp_path / "file" / "page.html")
    assert (code, "a file lies where a folder has to be" in err) == (1, True)
    assert not out.exists()
