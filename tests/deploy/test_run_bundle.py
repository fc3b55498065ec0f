from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from edgeproof_configs.files import FileTable, write_json
from edgeproof_configs.loader import load_recipe
from edgeproof_configs.run import RunDir
from edgeproof_configs.stage import StageContext
from edgeproof_deploy.bundle import BundleParts, verify_bundle
from edgeproof_deploy.run_bundle import bundle_of_run, without_folders
from edgeproof_deploy.runtime.predictor import Predictor
from edgeproof_train.student import Student

RECIPE = """
name: tiny
data: {kind: image_folder}
teacher: {kind: stored, folder: embeddings}
student: {model: test_resnet, image_size: 32}
losses: [{kind: cosine_embedding}]
train: {epochs: 2}
head: {kind: zero_shot, labels: labels.txt, text_embeddings: text.npy}
"""


@pytest.fixture
def context(student: Student, parts: BundleParts, tmp_path: Path) -> StageContext:
    """A run whose stages have left what the bundle needs."""
    run = RunDir(tmp_path / "run")
    student.save(run.stage("train"))
    plans = [run.stage("build") / file.name for file in parts.engines]
    copies = {
        parts.models[0]: run.stage("export") / "model.onnx",
        parts.head / "head.safetensors": run.stage("head") / "head.safetensors",
        parts.head / "labels.txt": run.stage("head") / "labels.txt",
        parts.parity: run.stage("verify") / "parity.json",
        **dict(zip(parts.engines, plans, strict=True)),
    }
    for source, target in copies.items():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    run.stage("report").mkdir()
    (run.stage("report") / "report.html").write_text("<html></html>")
    write_json(run.path / "result.json", {"sentence": "Ship it: 91 %."})
    run.finish("build", "digest", plans, 1.0, {})
    run.finish("export", "digest", [], 1.0, {"files": {"model.onnx": {}}})
    teacher = {"kind": "stored", "folder": "/somebody/at/home/clip"}
    run.stage("embed").mkdir()
    run.finish("embed", "the inputs", [], 1.0, {"teacher": teacher, "images": {"train": 5}, "corrupt": 1})
    (tmp_path / "tiny.yaml").write_text(RECIPE)
    recipe = load_recipe(str(tmp_path / "tiny.yaml"), ["data.root=/home/me/photos"]).recipe
    return StageContext(recipe, run, "cpu", False, FileTable(tmp_path / "files.tsv"))


def test_bundle_of_run__predicts_and_says_where_it_came_from(
    context: StageContext, photos: list[Path]
) -> None:
    files = bundle_of_run(context)
    folder = context.run.stage("bundle")
    assert verify_bundle(folder) == len(files) - 1
    assert all(folder in file.parents for file in files)
    assert len(Predictor.open(folder, threads=1).predict(photos)) == len(photos)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["name"] == "tiny"
    assert manifest["verdict"] == "Ship it: 91 %."
    assert manifest["teacher"] == {"kind": "stored", "folder": "clip"}
    assert manifest["data"] == {"images": {"train": 5}, "corrupt": 1, "sha256": "the inputs"}
    assert manifest["student"]["architecture"] == "test_resnet"
    assert manifest["recipe"]["data"]["root"] == "photos"
    assert manifest["environment"]["versions"]["torch"]
    assert {"engines/tensorrt_rtx-fp32-sm86.engine", "report.html"} < set(manifest["files"])


def test_without_folders__keeps_names_and_relative_paths() -> None:
    plain = {
        "root": "/home/me/photos",
        "list": ["/a/b.npy", "c/d.npy"],
        "n": 3,
        "none": None,
        "pair": (1, "/x"),
    }
    assert without_folders(plain) == {
        "root": "photos",
        "list": ["b.npy", "c/d.npy"],
        "n": 3,
        "none": None,
        "pair": [1, "x"],
    }
