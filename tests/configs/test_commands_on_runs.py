"""Commands that work on a finished run or bundle: predict, evaluate, verify, bench, text."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.integration.tiny import make_data, make_recipe

from edgeproof_configs.loader import load_recipe
from edgeproof_configs.registry import build, component_class
from edgeproof_configs.run import RunDir

Run = Callable[..., tuple[int, str, str]]
pytestmark = pytest.mark.integration


@pytest.fixture
def image(photos: Path) -> Path:
    return photos / "test" / "red_square" / "a.00.png"


def test_ship__resolved_recipe_of_the_run_is_valid(shipped: Path, photo_recipe: Path) -> None:
    resolved = load_recipe(str(shipped / "recipe.resolved.yaml"))
    assert resolved.recipe == load_recipe(str(photo_recipe)).recipe


@pytest.mark.parametrize("place", ["bundle", "."])
def test_predict__a_bundle_or_its_run(place: str, shipped: Path, image: Path, edgeproof: Run) -> None:
    code, out, err = edgeproof("predict", shipped / place, image, "--top", 2)
    assert (code, err) == (0, "")
    assert out.splitlines()[0] == str(image)
    assert len(out.splitlines()) == 3


def test_predict__json_and_labels(shipped: Path, image: Path, edgeproof: Run) -> None:
    code, out, _ = edgeproof("predict", shipped, image, image, "--json", "--labels", "red square,blue square")
    found = json.loads(out)["predictions"]
    assert code == 0
    assert len(found) == 2
    assert {row["label"] for row in found[0]["labels"]} == {"red square", "blue square"}
    assert sum(row["probability"] for row in found[0]["labels"]) == pytest.approx(1, abs=1e-5)


def test_predict__pytorch_agrees_with_onnxruntime(shipped: Path, image: Path, edgeproof: Run) -> None:
    results = []
    for engine in ("onnxruntime", "pytorch"):
        code, out, err = edgeproof("predict", shipped, image, "--json", "--engine", engine)
        assert (code, err) == (0, "")
        rows = json.loads(out)["predictions"][0]["labels"]
        results.append({row["label"]: row["probability"] for row in rows})
    assert results[0] == pytest.approx(results[1], abs=1e-3)


def test_predict__broken_images_are_named_and_the_others_predicted(
    shipped: Path, image: Path, edgeproof: Run, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(bytes(range(256)) * 80)
    code, out, err = edgeproof("predict", shipped, broken, image, tmp_path / "none.jpg")
    assert code == 1
    assert str(image) in out
    assert ["broken.jpg" in err.splitlines()[0], "none.jpg" in err.splitlines()[1]] == [True, True]


@pytest.mark.parametrize(
    "file", ["model.onnx", "head.safetensors", "labels.txt", "preprocess.json", "report.html"]
)
def test_predict_and_verify__a_tampered_bundle(
    file: str, shipped: Path, image: Path, edgeproof: Run, tmp_path: Path
) -> None:
    shutil.copytree(shipped / "bundle", tmp_path / "b")
    with (tmp_path / "b" / file).open("ab") as handle:
        handle.write(b"x")
    for arguments in (
        ["predict", tmp_path / "b", image],
        ["verify", tmp_path / "b"],
        ["bench", tmp_path / "b"],
    ):
        code, _, err = edgeproof(*arguments)
        assert code == 1
        assert file in err
        assert len(err.splitlines()) <= 3


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--engine", "onnxruntim"], 2, "Did you mean 'onnxruntime'?"),
        (["--engine", "tensorrt_rtx"], 5, "engine tensorrt_rtx"),
        (["--labels", "red square,violet"], 2, "violet"),
    ],
)
def test_predict__what_cannot_be_done(
    arguments: list[str], code: int, words: str, shipped: Path, image: Path, edgeproof: Run
) -> None:
    found, _, err = edgeproof("predict", shipped, image, *arguments)
    assert found == code
    assert words in err


def test_predict__pytorch_needs_the_run(shipped: Path, image: Path, edgeproof: Run) -> None:
    code, _, err = edgeproof("predict", shipped / "bundle", image, "--engine", "pytorch")
    assert code == 2
    assert "name its run" in err


def test_compare__a_run_s_student_in_pytorch_and_its_bundle(shipped: Path, edgeproof: Run) -> None:
    given = [f"{shipped}@pytorch", f"{shipped}@onnxruntime"]
    code, out, err = edgeproof("bench", "--compare", *given, "--seconds", 0.1, "--json")
    assert (code, err) == (0, "")
    told = json.loads(out)
    sides = told["sides"]
    assert [sides[letter]["model"] for letter in "AB"] == ["model.safetensors", "model.onnx"]
    assert sides["A"]["runs_on"] == ["torch cpu"]
    assert sides["A"]["inputs"] == sides["B"]["inputs"]
    assert told["a_over_b"]["rounds"] == 20


def test_predict__a_run_without_a_bundle(image: Path, edgeproof: Run, tmp_path: Path) -> None:
    (tmp_path / "recipe.resolved.yaml").write_text("name: x\n")
    code, _, err = edgeproof("predict", tmp_path, image)
    assert code == 2
    assert "this run has no bundle yet" in err


def test_verify__a_bundle_as_folder_and_tar(shipped: Path, edgeproof: Run, tmp_path: Path) -> None:
    tar = shutil.make_archive(str(tmp_path / "b"), "tar", shipped, "bundle")
    for place in (shipped / "bundle", tar):
        code, out, err = edgeproof("verify", place)
        assert (code, err) == (0, "")
        assert "files are those of the manifest" in out
        assert "pass  model.onnx when made -> onnxruntime fp32: cosine min 1.0" in out


def test_bench__a_bundle(shipped: Path, edgeproof: Run, tmp_path: Path) -> None:
    traces = tmp_path / "traces.npz"
    code, out, _ = edgeproof("bench", shipped / "bundle", "--seconds", 0.05, "--traces", traces)
    assert code == 0
    rows = [line.split() for line in out.splitlines() if line.startswith("onnxruntime fp32")]
    assert [row[2] for row in rows[:4]] == ["1", "8", "1", "2"]
    assert "a photo of the self-test, p50 ms" in out
    assert all(float(row[3]) > 0 for row in rows[:4])
    assert "not official: measured for" in out
    assert {"onnxruntime fp32/batch1", "onnxruntime fp32/batch8"} <= set(np.load(traces))


def test_verify_and_bench__options_of_recipes_are_refused(shipped: Path, edgeproof: Run) -> None:
    code, _, err = edgeproof("bench", shipped / "bundle", "--set", "a=1")
    assert code == 2
    assert "--set has no effect on a bundle" in err


def test_evaluate__teacher_and_student(shipped: Path, edgeproof: Run) -> None:
    code, out, _ = edgeproof("evaluate", shipped, "--json", "--device", "cpu")
    found = json.loads(out)
    assert code == 0
    assert found["teacher"]["top1"] == 1.0
    assert 0 <= found["student"]["top1"] <= 1
    assert -1 <= found["student"]["cosine_mean"] <= 1
    code, out, _ = edgeproof("evaluate", shipped, "--device", "cpu", "--split", "val")
    assert code == 0
    assert "cosine_mean" in out


@pytest.mark.parametrize(
    ("arguments", "words"), [(["--split", "tset"], "unknown part 'tset'"), (["--device", "cuda:99"], "")]
)
def test_evaluate__what_cannot_be_done(
    arguments: list[str], words: str, shipped: Path, edgeproof: Run
) -> None:
    code, _, err = edgeproof("evaluate", shipped, *arguments)
    assert code in (2, 5)
    assert words in err


def test_text__a_teacher_without_a_text_tower(photo_recipe: Path, edgeproof: Run, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("red\n")
    code, _, err = edgeproof("text", prompts, tmp_path / "t.npy", "--recipe", photo_recipe)
    assert code == 2
    assert "no text tower" in err
    assert not (tmp_path / "t.npy").exists()


def test_text__by_the_teacher_that_a_run_trained(edgeproof: Run, tmp_path: Path) -> None:
    root = make_data(tmp_path / "data")
    rows = [file.relative_to(root).as_posix() for file in sorted(root.rglob("*.png"))]
    lines = [f"{path},a photo of a {Path(path).parent.name.replace('_', ' ')}." for path in rows]
    (root / "captions.csv").write_text("\n".join(["path,caption", *lines]) + "\n")
    file = make_recipe(
        tmp_path,
        root,
        data={"kind": "image_folder", "root": str(root), "captions": "captions.csv"},
        teacher={"kind": "contrastive", "view": "assume_invariant", "image_size": 32, "epochs": 3}
        | {"model": "test_resnet.r160_in1k", "embedding_dim": 16, "text_width": 32, "text_layers": 1},
        head={"kind": "zero_shot"},
    )
    recipe = load_recipe(str(file)).recipe
    run = RunDir(tmp_path / "run")
    teacher: Any = component_class("teacher", "contrastive")
    run.stage("teacher").mkdir(parents=True)
    teacher.train_in_place(recipe.teacher, build("data", recipe.data), run.stage("teacher"), "cpu")

    prompts, out = tmp_path / "prompts.txt", tmp_path / "text.npy"
    prompts.write_text("a red square\na blue square\n")
    given = ["--recipe", file, "--run", run.path, "--device", "cpu"]
    assert edgeproof("text", prompts, out, *given)[0] == 0
    matrix = np.load(out)
    assert matrix.shape == (2, 16)
    assert np.linalg.norm(matrix, axis=1) == pytest.approx([1, 1], abs=1e-6)
    described = json.loads(out.with_suffix(".json").read_text())
    assert described["prompts"] == [["a red square"], ["a blue square"]]

    (tmp_path / "words.txt").write_text("red square\nblue square\n")
    code, _, _ = edgeproof("text", tmp_path / "words.txt", tmp_path / "w.npy", *given, "--templates", "plain")
    described = json.loads((tmp_path / "w.json").read_text())
    assert code == 0
    assert described["prompts"] == [["a photo of a red square."], ["a photo of a blue square."]]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["prompts.txt", "t.npy"], "--recipe RECIPE, or --run DIR"),
        (["prompts.txt", "t.txt", "--recipe", "quickstart"], "written as .npy"),
        (["none.txt", "t.npy", "--recipe", "quickstart"], "no such file of prompts"),
        (["prompts.txt", "there.npy", "--recipe", "quickstart"], "is not overwritten"),
        (["prompts.txt", "t.npy", "--run", "."], "not a run directory"),
    ],
)
def test_text__usage(
    arguments: list[str], words: str, edgeproof: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("prompts.txt").write_text("a cube\n")
    np.save("there.npy", np.zeros(1))
    code, _, err = edgeproof("text", *arguments)
    assert code == 2
    assert words in err
