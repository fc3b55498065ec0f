from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from tests.deploy.small_text import write_text_tower

from edgeproof_configs.files import FileTable, write_json
from edgeproof_configs.loader import load_recipe
from edgeproof_configs.run import RunDir
from edgeproof_configs.stage import StageContext
from edgeproof_deploy.bundle import BundleParts, verify_bundle
from edgeproof_deploy.run_bundle import bundle_of_run, left_out, stem, without_folders
from edgeproof_deploy.runtime.predictor import Predictor
from edgeproof_train.student import Student

ENGINES = ("onnxruntime", "tensorrt_rtx")
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
    engines = {"fp32/tensorrt_rtx": {"file": plans[0].name}}
    run.finish("build", "digest", plans, 1.0, {"engines": engines})
    run.finish("verify", "digest", [], 1.0, {"rows": []})
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


COMPRESSED = """
compress: {quantization: {method: ptq}}
"""


def row(engine: str, precision: str, *failed: str) -> dict[str, object]:
    gates = [{"name": name, "status": "fail"} for name in failed] + [{"name": "agreement", "status": "pass"}]
    told = {"form": "student", "engine": engine, "precision": precision, "status": "run here"}
    return {**told, "gates": gates}


@pytest.mark.parametrize(
    ("failed", "unfit"),
    [
        ([], set()),
        (["onnxruntime"], {"model.int8.onnx"}),
        (["tensorrt_rtx"], {"model.int8.trt.onnx", "tensorrt_rtx-int8-sm86"}),
        (["pytorch"], {"model.int8.onnx", "model.int8.trt.onnx", "tensorrt_rtx-int8-sm86"}),
    ],
)
def test_left_out__what_failed_and_what_is_made_of_it(
    context: StageContext, tmp_path: Path, failed: list[str], unfit: set[str]
) -> None:
    (tmp_path / "int8.yaml").write_text(RECIPE + COMPRESSED)
    settings = ["data.root=/home/me/photos", "deploy.engines=[onnxruntime, tensorrt_rtx]"]
    recipe = load_recipe(str(tmp_path / "int8.yaml"), settings).recipe
    engines = {"int8/tensorrt_rtx": {"file": "tensorrt_rtx-int8-sm86.engine"}}
    context.run.finish("build", "digest", [], 1.0, {"engines": engines})
    rows = [
        row(engine, "int8", *(["cosine"] if engine in failed else [])) for engine in ("pytorch", *ENGINES)
    ]
    rows += [row(engine, "fp32", "cosine") for engine in ENGINES]
    context.run.finish("verify", "digest", [], 1.0, {"rows": rows})
    found = left_out(replace(context, recipe=recipe))
    assert {name for name in found if "int8" in name} == unfit
    assert set(found.values()) <= {"cosine failed"}
    assert "model.onnx" not in found


HALVES = ("onnxruntime", "tensorrt_rtx", "pytorch")


def test_left_out__a_file_that_failed_is_not_saved_by_an_engine_that_did_not_run_it(
    context: StageContext, tmp_path: Path
) -> None:
    settings = ["data.root=/home/me/photos", f"deploy.engines=[{', '.join(HALVES)}]"]
    (tmp_path / "half.yaml").write_text(RECIPE)
    recipe = load_recipe(str(tmp_path / "half.yaml"), [*settings, "deploy.precisions=[fp32, fp16]"]).recipe
    engines = {"fp16/tensorrt_rtx": {"file": "tensorrt_rtx-fp16-sm86.engine"}}
    context.run.finish("build", "digest", [], 1.0, {"engines": engines})
    built = row("tensorrt_rtx", "fp16") | {"status": "built, not run here", "gates": []}
    fp32 = [row(engine, "fp32") for engine in HALVES]
    context.run.finish(
        "verify", "digest", [], 1.0, {"rows": [*fp32, row("onnxruntime", "fp16", "cosine"), built]}
    )
    assert left_out(replace(context, recipe=recipe)) == {
        "model.fp16.onnx": "cosine failed",
        "tensorrt_rtx-fp16-sm86": "model.fp16.onnx is left out: cosine failed",
    }


def test_stem__is_shared_by_all_files_of_a_plan() -> None:
    names = ("tensorrt-int8-sm87.engine", "tensorrt-int8-sm87.json", "tensorrt-int8-sm87.layers.json")
    assert {stem(name) for name in names} == {"tensorrt-int8-sm87"}
    assert stem("") == ""


def test_bundle_of_run__says_what_was_left_out(context: StageContext) -> None:
    context.run.finish("verify", "digest", [], 1.0, {"rows": [row("tensorrt_rtx", "fp32", "mean_abs")]})
    settings = ["data.root=/home/me/photos", "deploy.engines=[onnxruntime, tensorrt_rtx]"]
    (context.run.path.parent / "both.yaml").write_text(RECIPE)
    recipe = load_recipe(str(context.run.path.parent / "both.yaml"), settings).recipe
    bundle_of_run(replace(context, recipe=recipe))
    manifest = json.loads((context.run.stage("bundle") / "manifest.json").read_text())
    assert manifest["left_out"] == {"tensorrt_rtx-fp32-sm86": "mean_abs failed"}
    assert not [name for name in manifest["files"] if name.startswith("engines/")]


def test_bundle_of_run__with_the_text_tower_of_the_export(context: StageContext, photos: list[Path]) -> None:
    place = context.run.stage("export") / "text"
    place.mkdir()
    names = [f"text/{file.name}" for file in write_text_tower(place)]
    context.run.finish("export", "digest", [], 1.0, {"files": {"model.onnx": {}}, "text": {"files": names}})
    bundle_of_run(context)
    folder = context.run.stage("bundle")
    with Predictor.open(folder, threads=1) as predictor:
        assert predictor.has_text_encoder
        predictor.set_labels(["red", "blue thing"])
        assert {label for label, _ in predictor.predict(photos[0])[0].labels} == {"red", "blue thing"}
    assert "carries the teacher's text tower" in (folder / "README.md").read_text(encoding="utf-8")


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
