"""`import`, and what its folder is good for."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from tests.integration.tiny import CLASSES, make_recipe

from edgeproof_compress.masks import mask_2_4
from edgeproof_train.student import Student

Run = Callable[..., tuple[int, str, str]]
FAVOURITE = "green_square"
MODEL = "test_resnet.r160_in1k"
pytestmark = pytest.mark.integration


class Bait:
    """A pickle of this makes a folder when it is read."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


@pytest.fixture
def recipe(photos: Path, tmp_path: Path) -> Path:
    """Return a recipe for a classifier of the three classes of the pictures."""
    return make_recipe(
        tmp_path,
        photos,
        teacher={"kind": "none"},
        losses=[{"kind": "cross_entropy"}],
        train={"epochs": 1, "batch_size": 8, "lr": 1e-12, "warmup_epochs": 0, "workers": 0},
        head={"kind": "classifier"},
        baseline=None,
    )


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """Return a network as another tool would have saved it, with a mask of ASP's, that says one class."""
    torch.manual_seed(0)
    state = timm.create_model(MODEL, num_classes=3).state_dict()
    state["fc.bias"][CLASSES.index(FAVOURITE)] = 100.0
    wrapped = {f"module.{name}": value for name, value in state.items()}
    wrapped["module.layer1.0.conv1.__weight_mma_mask"] = mask_2_4(state["layer1.0.conv1.weight"])
    torch.save({"state_dict": wrapped, "epoch": 2}, tmp_path / "a.pth")
    (tmp_path / "classes.txt").write_text("".join(f"{name}\n" for name in CLASSES))
    return tmp_path / "a.pth"


def import_it(edgeproof: Run, checkpoint: Path, *more: object) -> Path:
    out = checkpoint.parent / "imported"
    code, told, err = edgeproof("import", checkpoint, out, "--model", MODEL, "--image-size", "32", *more)
    assert code == 0, err
    assert told.splitlines()[-1] == f"{out}: model.safetensors, config.json, masks.safetensors, import.json"
    return out


def test_import__is_evaluated_under_a_recipe(
    checkpoint: Path, recipe: Path, edgeproof: Run, tmp_path: Path
) -> None:
    out = import_it(edgeproof, checkpoint, "--classes", tmp_path / "classes.txt")
    tables = ("--out", tmp_path / "tables", "--json", "--device", "cpu")
    code, told, err = edgeproof("evaluate", recipe, "--weights", out, *tables)
    assert code == 0, err
    assert json.loads(told)["student"]["top1"] == pytest.approx(1 / 3)
    with (tmp_path / "tables/right.csv").open(newline="") as handle:
        assert {row["true"] for row in csv.DictReader(handle)} == {FAVOURITE.replace("_", " ")}


def test_import__starts_the_student_of_a_recipe(
    checkpoint: Path, recipe: Path, edgeproof: Run, tmp_path: Path
) -> None:
    out = import_it(edgeproof, checkpoint)
    settings = (f"student.weights={out}", "student.head_init=weights", "student.image_size=32")
    options = [word for setting in settings for word in ("--set", setting)]
    code, _, err = edgeproof("train", recipe, "--run", tmp_path / "run", *options, "--device", "cpu")
    assert code == 0, err
    trained, given = Student.load(tmp_path / "run/train"), Student.load(out)
    for name in ("backbone.layer2.0.conv2.weight", "head.weight"):
        torch.testing.assert_close(trained.get_parameter(name), given.get_parameter(name), atol=1e-6, rtol=0)


def test_import__starts_a_student_with_another_head(
    checkpoint: Path, photo_recipe: Path, edgeproof: Run
) -> None:
    out = import_it(edgeproof, checkpoint)
    code, told, err = edgeproof("ship", photo_recipe, "--dry-run", "--set", f"student.weights={out}")
    assert code == 0, err
    assert "16" in told


def test_import__a_malicious_file_is_refused_and_runs_nothing(edgeproof: Run, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    state = timm.create_model(MODEL).state_dict()
    torch.save({"state_dict": state, "args": Bait(mark)}, tmp_path / "a.pth")
    command = [
        sys.executable,
        "-m",
        "edgeproof",
        "import",
        tmp_path / "a.pth",
        tmp_path / "out",
        "--model",
        MODEL,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "could run code: not opened" in done.stderr
    assert len(done.stderr.splitlines()) == 3
    assert not done.stdout
    assert not mark.exists()
    assert not (tmp_path / "out").exists()


def test_import__needs_a_model(edgeproof: Run, tmp_path: Path) -> None:
    code, _, err = edgeproof("import", tmp_path / "a.pth", tmp_path / "out")
    assert code == 2
    assert "--model" in err
