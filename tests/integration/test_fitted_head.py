"""A recipe with a fitted head: shipped, scored, predicted with, and followed by another head."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from tests.integration.tiny import make_data, make_recipe

from edgeproof.__main__ import main

pytestmark = pytest.mark.integration

HEAD: dict[str, Any] = {
    "kind": "gda",
    "labels": "labels.txt",
    "text_embeddings": "text.npy",
    "shots": 4,
    "views": 2,
    "seed": 1,
}
Shipped = tuple[Path, Path]


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Shipped:
    """Return a recipe whose head is fitted on four shots, and the run that shipped it."""
    folder = tmp_path_factory.mktemp("fitted")
    deploy = {"batch": [1, 2], "engines": ["onnxruntime"], "self_test_images": 2}
    recipe = make_recipe(folder, make_data(folder / "data"), head=HEAD, baseline=None, deploy=deploy)
    assert main(["ship", str(recipe), "--run", str(folder / "run")]) == 0
    return recipe, folder / "run"


def answers_of(run: Path) -> dict[str, str]:
    """Return the label that `evaluate` gave each test image."""
    found: dict[str, str] = {}
    for name in ("right", "wrong"):
        with (run / "evaluate" / "test" / f"{name}.csv").open(newline="") as handle:
            found |= {row["path"]: row["predicted"] for row in csv.DictReader(handle)}
    return found


def test_ship__says_which_head_and_how_it_was_chosen(shipped: Shipped) -> None:
    run = shipped[1]
    told = json.loads((run / "head" / "head.json").read_text())
    assert told["kind"] == "gda"
    assert told["transductive"] is False
    assert (told["evidence"]["shots"]["per_class"], told["evidence"]["shots"]["seed"]) == (4, 1)
    assert told["evidence"]["shots"]["views"] == 2
    assert told["evidence"]["val"]["images"] == 9
    assert 0 <= told["val_accuracy"]["top1"] <= 1
    assert told["teacher"]["evidence"]["shots"]["views"] == 1
    drawn = told["evidence"]["shots"]["by_class"]
    assert {label: len(paths) for label, paths in drawn.items()} == dict.fromkeys(drawn, 4)
    with (run / "head" / "shots.csv").open(newline="") as handle:
        listed = [(row["label"], row["path"]) for row in csv.DictReader(handle)]
    assert sorted(listed) == sorted((label, path) for label, paths in drawn.items() for path in paths)
    assert drawn["red square"][0] in (run / "bundle" / "report.html").read_text()
    result = json.loads((run / "result.json").read_text())
    assert any(note.startswith("head: gda on 4 shots a class (seed 1, 2 views") for note in result["notes"])
    assert "gda on 4 shots a class" in (run / "bundle" / "report.html").read_text()
    assert json.loads((run / "bundle" / "manifest.json").read_text())["head"]["kind"] == "gda"


def states(text: str) -> dict[str, str]:
    """Return what a plan says of each stage."""
    lines = text.split("\nstages\n")[1].strip().splitlines()
    return {line.split()[0]: line.split(maxsplit=1)[1] for line in lines}


def test_dry_run__says_which_stages_would_be_done_again(
    shipped: Shipped, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, run = shipped
    ask = ["ship", str(recipe), "--run", str(run), "--dry-run"]
    assert main(ask) == 0
    assert not [name for name, state in states(capsys.readouterr().out).items() if state == "to do"]
    assert main([*ask, "--set", "head.kind=proker", "--from", "head"]) == 0
    found = states(capsys.readouterr().out)
    assert found["train"].startswith("finished before")
    assert {found[name] for name in ("head", "export", "verify", "bundle")} == {"to do"}
    assert main([*ask, "--set", "head.kind=proker"]) == 2
    assert "made with other settings: head.kind: gda -> proker" in capsys.readouterr().err
    assert main([*ask, "--from", "hed"]) == 2


def test_ship__a_run_that_was_refused_before_its_first_stage_takes_other_settings(
    shipped: Shipped, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, run = shipped[0], tmp_path / "run"
    assert main(["ship", str(recipe), "--run", str(run), "--set", "head.templates=clip"]) == 2
    assert "templates" in capsys.readouterr().err
    ask = ["ship", str(recipe), "--run", str(run), "--dry-run"]
    assert main(ask) == 0
    assert set(states(capsys.readouterr().out).values()) == {"to do"}


def test_predict__gives_the_labels_that_evaluate_gives(
    shipped: Shipped, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, run = shipped
    root = recipe.parent / "data"
    assert main(["evaluate", str(run)]) == 0
    wanted = answers_of(run)
    assert len(wanted) == 18
    capsys.readouterr()
    for engine in ("onnxruntime", "pytorch"):
        assert (
            main(["predict", str(run), str(root / "test"), "--engine", engine, "--json", "--top", "1"]) == 0
        )
        listed = json.loads(capsys.readouterr().out)["predictions"]
        got = {Path(one["path"]).relative_to(root).as_posix(): one["labels"][0]["label"] for one in listed}
        assert got == wanted
    figures = json.loads((run / "evaluate" / "test" / "metrics.json").read_text())
    rows = {row["form"]: row["metrics"] for row in json.loads((run / "result.json").read_text())["rows"]}
    assert figures["student"]["top1"] == rows["student"]["top1"]
    assert figures["teacher"]["top1"] == rows["teacher"]["top1"]


def test_ship__another_head_follows_the_same_training(
    shipped: Shipped, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, run = shipped
    weights = (run / "train" / "model.safetensors").stat().st_mtime_ns
    words = ["head", str(recipe), "--run", str(run), "--set", "head={kind: nearest_mean, shots: 2}"]
    assert main(words) == 2
    assert "--from" in capsys.readouterr().err
    again = ["head.kind=nearest_mean", "head.views=1"]
    settings = [word for one in again for word in ("--set", one)]
    assert main(["ship", str(recipe), "--run", str(run), *settings, "--from", "head"]) == 0
    said = capsys.readouterr().out
    assert "train   up to date" in said
    assert "nearest_mean on 4 shots a class" in said
    assert (run / "train" / "model.safetensors").stat().st_mtime_ns == weights
