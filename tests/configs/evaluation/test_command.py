"""`evaluate` on runs, and on weights under a recipe."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from timm.models import save_for_hf

from edgeproof.evaluation.command import table

Run = Callable[..., tuple[int, str, str]]
pytestmark = pytest.mark.integration


def figures_of(edgeproof: Run, *arguments: object) -> dict[str, dict[str, Any]]:
    code, out, err = edgeproof("evaluate", *arguments, "--json", "--device", "cpu")
    assert code == 0, err
    return json.loads(out)


def rows_of(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as handle:
        return list(csv.DictReader(handle))


def test_evaluate__leaves_tables_that_agree_with_the_figures(
    class_run: Path, edgeproof: Run, tmp_path: Path
) -> None:
    found = figures_of(edgeproof, class_run, "--out", tmp_path / "e")
    assert list(found) == ["student"]
    right, wrong = (rows_of(tmp_path / "e" / name) for name in ("right.csv", "wrong.csv"))
    assert len(right) / (len(right) + len(wrong)) == found["student"]["top1"]
    assert all(row["true"] == row["predicted"] for row in right)
    assert all(row["path"].startswith("test/") for row in wrong + right)
    per_class = rows_of(tmp_path / "e" / "per_class.csv")
    assert sum(int(row["right"]) for row in per_class) == len(right)
    confusion = rows_of(tmp_path / "e" / "confusion.csv")
    assert sum(int(row.get(row["true \\ predicted"], 0)) for row in confusion) == len(right)
    features = np.load(tmp_path / "e" / "features.npy")
    assert features.shape[0] == len(rows_of(tmp_path / "e" / "features.csv")) == 9
    assert json.loads((tmp_path / "e" / "metrics.json").read_text()) == found


def test_evaluate__ten_crops_are_a_column_of_their_own(
    class_run: Path, shipped: Path, edgeproof: Run, tmp_path: Path
) -> None:
    plain = figures_of(edgeproof, class_run, "--out", tmp_path / "a")
    found = figures_of(edgeproof, class_run, "--tta", "--out", tmp_path / "b")
    assert list(found) == ["student", "student tencrop_logits"]
    assert found["student"] == plain["student"]
    found = figures_of(edgeproof, shipped, "--tta", "--out", tmp_path / "c")
    assert list(found) == ["teacher", "student", "student tencrop_embeddings"]


def test_evaluate__verifies_by_tables_of_labels(
    class_run: Path, photos: Path, edgeproof: Run, tmp_path: Path
) -> None:
    paths = sorted(file.relative_to(photos).as_posix() for file in (photos / "test").rglob("*.png"))
    rows = [f"{path},{'warm' if 'red' in path else 'cold'}" for path in paths]
    table = tmp_path / "coarse.csv"
    table.write_text("\n".join(["path,label", *rows]))
    found = figures_of(edgeproof, class_run, "--coarse", table, "--out", tmp_path / "e")["student"]
    assert 0 <= found["verified_coarse@0.1"] <= 1
    assert 0 <= found["verified_fine@0.1"] <= 1
    pairs = json.loads((tmp_path / "e" / "verification.json").read_text())["student"]
    assert (pairs["fine"]["genuine_pairs"], pairs["fine"]["impostor_pairs"]) == (9, 27)
    assert (pairs["coarse"]["genuine_pairs"], pairs["coarse"]["impostor_pairs"]) == (18, 18)
    assert pairs["fine"]["rates"]["0.001"] == "unresolvable"
    assert {"knn1", "ece", "nll", "brier", "temperature", "ece_scaled"} <= set(found)


def test_evaluate__tables_of_a_run_go_into_it(class_run: Path, edgeproof: Run, tmp_path: Path) -> None:
    run = shutil.copytree(class_run, tmp_path / "run")
    code, out, _ = edgeproof("evaluate", run, "--device", "cpu", "--split", "val")
    assert code == 0
    assert out.splitlines()[-1] == f"tables: {run / 'evaluate' / 'val'}"
    assert (run / "evaluate" / "val" / "wrong.csv").exists()


@pytest.mark.parametrize("kind", ["classes", "embeddings"])
def test_evaluate__weights_of_a_run_give_the_figures_of_the_run(
    kind: str,
    class_run: Path,
    class_recipe: Path,
    shipped: Path,
    photo_recipe: Path,
    edgeproof: Run,
    tmp_path: Path,
) -> None:
    run, recipe = (class_run, class_recipe) if kind == "classes" else (shipped, photo_recipe)
    expected = figures_of(edgeproof, run, "--out", tmp_path)["student"]
    found = figures_of(edgeproof, recipe, "--weights", run / "train")["student"]
    assert found == {name: expected[name] for name in found}
    assert "top1" in found


def test_evaluate__weights_under_a_recipe_that_curates_are_scored_on_every_image(
    shipped: Path, photo_recipe: Path, edgeproof: Run
) -> None:
    curating = ["--set", "data.unlabelled=[train,val]", "--set", "curate.floor=0.1"]
    for curates in ([], curating):
        code, out, err = edgeproof("evaluate", photo_recipe, "--weights", shipped / "train", *curates)
        assert code == 0, err
        assert "student" in out
        assert ("every image is scored" in err) == bool(curates)


def test_evaluate__weights_that_timm_wrote(
    photos: Path, class_recipe: Path, edgeproof: Run, tmp_path: Path
) -> None:
    torch.manual_seed(1)
    model = timm.create_model("test_resnet.r160_in1k", num_classes=3)
    save_for_hf(model, str(tmp_path / "weights"), safe_serialization=True)
    found = figures_of(edgeproof, class_recipe, "--weights", tmp_path / "weights", "--out", tmp_path / "e")
    from edgeproof_deploy.runtime.preprocess import Preprocess, open_image
    from edgeproof_train.students.timm import TimmStudent

    config = TimmStudent.Config(model="test_resnet.r160_in1k", image_size=32)
    preprocess: Preprocess = TimmStudent(config, 3).preprocess
    names = ["blue square", "green square", "red square"]
    rows = [row for part in ("right", "wrong") for row in rows_of(tmp_path / "e" / f"{part}.csv")]
    for row in rows:
        image = torch.from_numpy(preprocess(open_image(photos / row["path"])))[None]
        with torch.no_grad():
            probability = model.eval()(image).softmax(dim=1)[0]
        assert names[int(probability.argmax())] == row["predicted"]
        assert float(probability.max()) == pytest.approx(float(row["probability"]), abs=1e-4)
    assert len(rows) == found["student"]["images"] == 9


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["{run}", "--set", "train.epochs=3"], "--set has no effect on a run"),
        (["{recipe}"], "not a run directory"),
        (["{recipe}", "--weights", "{photos}"], "there is no student here"),
        (
            ["{recipe}", "--weights", "{run}/train", "--set", "student.model=test_vit"],
            "the weights are of 'test_resnet'",
        ),
        (["{other}", "--weights", "{run}/train"], "the student gives scores of 3 classes"),
    ],
)
def test_evaluate__what_does_not_fit(
    arguments: list[str],
    words: str,
    class_run: Path,
    class_recipe: Path,
    photo_recipe: Path,
    photos: Path,
    edgeproof: Run,
) -> None:
    places = {"run": class_run, "recipe": class_recipe, "photos": photos, "other": photo_recipe}
    code, out, err = edgeproof("evaluate", *(word.format(**places) for word in arguments))
    assert code in (1, 2)
    assert out == ""
    assert words in err
    assert len(err.splitlines()) <= 4


def test_table__columns_are_as_wide_as_their_names() -> None:
    shown = table({"student": {"top1": 0.5, "images": 9.0}, "student tencrop_logits": {"top1": None}})
    assert shown.splitlines() == [
        "         student  student tencrop_logits",
        "top1      0.5000                       -",
        "images         9                       -",
    ]
