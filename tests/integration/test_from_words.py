"""From words and unlabelled pictures of the built-in solids to a bundle that knows these words."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.configs.scaled_recipes import CONTRASTIVE, NARROW, unlabelled_solids

from edgeproof.__main__ import main
from edgeproof.ship import ship
from edgeproof_data.cache import EmbeddingCache

pytestmark = pytest.mark.integration
WORDS = ("red cube", "blue sphere", "green cone", "white cross")


def write(folder: Path, **changes: Any) -> str:
    (folder / "words.csv").write_text("label,prompt\n" + "".join(f"{word},a {word}\n" for word in WORDS[:3]))
    with (folder / "words.csv").open("a") as handle:
        handle.write("white cross,a white cross\nwhite cross,white cross\n")
    recipe = {
        "name": "from-words",
        "data": unlabelled_solids(),
        "curate": {"floor": -1.0, "near": False, "per_word": 12},
        "teacher": CONTRASTIVE | {"view": "assume_invariant"},
        "student": {"model": "resnet10t", "image_size": 32, "kwargs": NARROW},
        "losses": [{"kind": "cosine_embedding"}, {"kind": "text_kl", "weight": 0.1, "logit_scale": 10.0}],
        "train": {"epochs": 2, "batch_size": 8, "lr": 2e-3, "warmup_epochs": 0.5, "workers": 0}
        | {"augment": {"flip": 0.5}},
        "head": {"kind": "zero_shot", "labels": str(folder / "words.csv")},
        "deploy": {"batch": [1], "engines": ["onnxruntime"], "self_test_images": 2},
        "bench": {"seconds": 0.05, "warmup_seconds": 0.01, "threads": 1},
    }
    recipe.update(changes)
    file = folder / "from-words.yaml"
    file.write_text(yaml.safe_dump(recipe, sort_keys=False))
    return str(file)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("words")
    assert main(["ship", write(folder), "--run", str(folder / "run")]) == 0
    return folder


def chosen(run: Path) -> list[dict[str, str]]:
    with (run / "curate" / "curated.csv").open(newline="") as handle:
        return list(csv.DictReader(handle))


def test_ship__student_and_bundle_know_the_words(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = folder / "run"
    train = [row for row in chosen(run) if row["part"] == "train"]
    assert 0 < len(train) <= 12 * len(WORDS)
    assert {row["label"] for row in train} <= set(WORDS)
    assert set(EmbeddingCache.open(run / "embed" / "train").paths) == {row["path"] for row in train}
    photo = next((Path(str(unlabelled_solids()["root"])) / "test").rglob("*.png"))
    capsys.readouterr()
    assert main(["predict", str(run / "bundle"), str(photo), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {one["label"] for one in found["predictions"][0]["labels"]} == set(WORDS)


def test_ship__report_tells_how_the_images_were_chosen(folder: Path) -> None:
    result = json.loads((folder / "run" / "result.json").read_text())
    told = result["curation"]
    assert sum(told["per_word"].values()) == told["kept"]["train"]
    assert told["searched"]["train"] > told["kept"]["train"]
    page = (folder / "run" / "report" / "report.html").read_text()
    assert "Chosen images" in page
    assert "it is not its label" in page
    student = next(row for row in result["rows"] if row["form"] == "student")
    assert "top1" not in student["metrics"]


def test_export__rows_of_a_run_are_those_that_were_chosen(folder: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    out = folder / "rows.parquet"
    assert main(["data", "export", str(folder / "run"), str(out)]) == 0
    exported = parquet.read_table(out).column("path").to_pylist()
    assert sorted(exported) == sorted(row["path"] for row in chosen(folder / "run"))


@pytest.mark.slow
def test_curate__torchrun_chooses_what_one_process_chooses(folder: Path) -> None:
    both = folder / "both"
    both.mkdir()
    shutil.copytree(folder / "run" / "teacher", both / "teacher")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m"]
    command += ["--", "edgeproof", "embed", str(folder / "from-words.yaml"), "--run", str(both)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (both / "curate" / "curated.csv").read_bytes() == (folder / "run/curate/curated.csv").read_bytes()
    names = set(EmbeddingCache.open(both / "embed" / "train").paths)
    assert names == {row["path"] for row in chosen(both) if row["part"] == "train"}


def test_ship__again_and_with_another_floor(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, recipe = folder / "run", str(folder / "from-words.yaml")
    assert main(["ship", recipe, "--run", str(run)]) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert main(["ship", recipe, "--run", str(run), "--set", "curate.per_word=3"]) == 2
    assert "--from curate" in capsys.readouterr().err
    other = folder / "other"
    other.mkdir()
    for name in ("teacher", "curate"):
        shutil.copytree(run / name, other / name)
    embedded = {file.name: os.stat(file).st_mtime_ns for file in (other / "curate" / "train").iterdir()}
    assert main(["curate", recipe, "--run", str(other)]) == 0
    for number, start in ((3, None), (2, None), (1, "curate")):
        settings = [f"curate.per_word={number}"]
        assert ship(recipe, overrides=settings, run=other, start=start, until="curate") == 0
        counts = Counter(row["label"] for row in chosen(other) if row["part"] == "train")
        assert max(counts.values()) == number
        seen = {file.name: os.stat(file).st_mtime_ns for file in (other / "curate" / "train").iterdir()}
        assert seen == embedded
