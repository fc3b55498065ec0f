"""A cascade of two heads and a specialist on the built-in solids: shipped, scored, and predicted with."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from tests.configs.scaled_recipes import CONTRASTIVE, NARROW, SOLIDS

from edgeproof.__main__ import main
from edgeproof_configs.loader import component_config
from edgeproof_configs.registry import build
from edgeproof_data.sets import SPLITS, DataSource, ImageSet
from edgeproof_deploy.runtime.cascade_head import CascadeHead
from edgeproof_deploy.runtime.predictor import Predictor
from edgeproof_train.embeddings import embed_images
from edgeproof_train.specialist import Specialist
from edgeproof_train.student import Student

pytestmark = pytest.mark.integration

STUDENT = {"model": "resnet10t", "image_size": 48, "kwargs": NARROW}
TRAIN = {"epochs": 2, "batch_size": 16, "lr": 2e-3, "warmup_epochs": 0.5, "workers": 0}
DEPLOY = {"batch": [1, 2], "engines": ["onnxruntime"], "self_test_images": 2}


@pytest.fixture(scope="module")
def solids() -> DataSource:
    source: Any = build("data", component_config("data", SOLIDS))
    source.prepare()
    return source


def copy_group(source: DataSource, group: list[str], folder: Path) -> None:
    """Copy the images of some classes into a folder of their own, a folder for each class."""
    for split in SPLITS:
        images = source.split(split)
        for index in range(len(images)):
            name = images.class_names[images.labels[index]]
            if name in group:
                place = folder / split / name.replace(" ", "_")
                place.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(images.file(index), place / images.file(index).name)


def write(file: Path, recipe: dict[str, Any]) -> str:
    file.write_text(yaml.safe_dump(recipe, sort_keys=False))
    return str(file)


@pytest.fixture(scope="module")
def run(solids: DataSource, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the run of a cascade whose specialist knows the seen solids of one shape."""
    folder = tmp_path_factory.mktemp("cascade")
    shape = solids.class_names[0].split()[-1]
    group = [name for name in solids.class_names if name.split()[-1] == shape and name not in solids.unseen]
    copy_group(solids, group, folder / "group")
    specialist = {
        "name": "shapes",
        "data": {"kind": "image_folder", "root": str(folder / "group"), "val": "val"},
        "teacher": {"kind": "none"},
        "student": STUDENT,
        "losses": [{"kind": "cross_entropy"}],
        "train": TRAIN,
        "head": {"kind": "classifier"},
        "deploy": DEPLOY,
    }
    place = folder / "runs" / "shapes"
    assert main(["export", write(folder / "shapes.yaml", specialist), "--run", str(place)]) == 0
    cascade = {
        "name": "cascade",
        "data": SOLIDS,
        "teacher": CONTRASTIVE | {"view": "assume_invariant"},
        "student": STUDENT,
        "losses": [{"kind": "cosine_embedding"}],
        "train": TRAIN | {"augment": {"flip": 0.5}},
        "head": {
            "kind": "cascade",
            "shots": 2,
            "steps": [
                {"head": {"kind": "zero_shot"}, "answers": "unseen"},
                {"head": {"kind": "nearest_mean"}, "over": "seen", "except_for": "specialists"},
                {"specialist": str(place)},
            ],
        },
        "deploy": DEPLOY,
        "bench": {"seconds": 0.05, "warmup_seconds": 0.01, "threads": 1},
    }
    where = folder / "run"
    assert main(["ship", write(folder / "cascade.yaml", cascade), "--run", str(where)]) == 0
    return where


def answers_of(run: Path) -> dict[str, str]:
    """Return the label that `evaluate` gave each test image."""
    found: dict[str, str] = {}
    for name in ("right", "wrong"):
        with (run / "evaluate" / "test" / f"{name}.csv").open(newline="") as handle:
            found |= {row["path"]: row["predicted"] for row in csv.DictReader(handle)}
    return found


def test_predict__gives_the_labels_that_evaluate_gives(
    run: Path, solids: DataSource, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(run)]) == 0
    wanted = answers_of(run)
    images = solids.split("test")
    assert len(wanted) == len(images) == 64
    said = capsys.readouterr().out
    assert re.search(r"step +arrived +answered +precision +recall +accuracy\n1 zero_shot +64 ", said)
    assert "ms a mean image (heads and specialists, without the student)" in said
    files = [str(images.file(index)) for index in range(len(images))]
    for place in (run, run / "bundle"):
        assert main(["predict", str(place), *files, "--json", "--top", "1"]) == 0
        listed = json.loads(capsys.readouterr().out)["predictions"]
        got = [one["labels"][0]["label"] for one in listed]
        assert got == [wanted[path] for path in images.paths]
    figures = json.loads((run / "evaluate" / "test" / "metrics.json").read_text())
    rows = {row["form"]: row["metrics"] for row in json.loads((run / "result.json").read_text())["rows"]}
    assert figures["student"]["top1"] == rows["student"]["top1"]
    assert figures["teacher"]["top1"] == rows["teacher"]["top1"]
    routing = json.loads((run / "evaluate" / "test" / "routing.json").read_text())
    assert routing["accuracy"] == pytest.approx(figures["student"]["top1"])


def test_ship__says_who_answered_and_what_it_cost(run: Path) -> None:
    result = json.loads((run / "result.json").read_text())
    routing = result["routing"]
    steps = routing["steps"]
    assert [step["step"] for step in steps] == ["1 zero_shot", "2 nearest_mean", "3 shapes"]
    assert steps[0]["arrived"] == routing["images"] == 64
    assert sum(step["answered"] for step in steps) == 64
    assert steps[1]["arrived"] == 64 - steps[0]["answered"]
    assert steps[2]["arrived"] == steps[2]["answered"]
    assert routing["oracle_accuracy"] >= routing["accuracy"]
    parameters = routing["parameters"]
    assert parameters["used_mean"] <= parameters["loaded"]
    shared = steps[2]["arrived"] / 64
    assert [part["share"] for part in parameters["parts"]][-1] == pytest.approx(shared)
    spent = routing["milliseconds"]
    assert set(spent["specialists"]) == ({"shapes"} if shared else set())
    assert spent["mean"] == pytest.approx(spent["heads"] + shared * spent["specialists"].get("shapes", 0))
    assert any("answered by 1 zero_shot" in note for note in result["notes"])
    told = json.loads((run / "head" / "head.json").read_text())
    assert list(told["chosen"]["steps"]) == ["1 zero_shot", "2 nearest_mean", "3 shapes"]
    assert len(told["chosen"]["specialists"]["shapes"]["onnx_sha256"]) == 64
    assert told["val_routing"]["images"] > 0


def test_ship__the_bundle_has_the_specialist(run: Path) -> None:
    bundle = run / "bundle"
    files = json.loads((bundle / "manifest.json").read_text())["files"]
    wanted = {f"specialists/shapes/{name}" for name in ("model.onnx", "preprocess.json", "labels.txt")}
    assert wanted <= set(files)
    assert "specialists/shapes/model.onnx" in (bundle / "README.md").read_text()
    assert "3 shapes" in (bundle / "report.html").read_text()
    assert main(["verify", str(bundle)]) == 0


@pytest.fixture(scope="module")
def product(run: Path) -> Path:
    """Return a run whose steps share an image by the chain rule; its student is that of the other run."""
    where = run.parent / "product"
    shutil.copytree(run, where)
    command = ["ship", str(run.parent / "cascade.yaml"), "--run", str(where), "--from", "head"]
    # With so large a share some images reach the specialist and others do not.
    changes = ["--set", "head.combine=product", "--set", "head.least_share=0.1"]
    assert main([*command, *changes]) == 0
    return where


def by_chain_rule(
    head: CascadeHead, embeddings: torch.Tensor, scores_of: Callable[[str], torch.Tensor]
) -> torch.Tensor:
    """Return probabilities (N, K) float64 in torch: a step keeps its answers and passes the rest on."""
    unit = torch.nn.functional.normalize(embeddings.double(), dim=1)
    found = torch.zeros(len(unit), len(head.labels), dtype=torch.float64)
    left = torch.ones(len(unit), dtype=torch.float64)
    for step in head.steps:
        if step.head is None:
            assert step.columns is not None
            scores = scores_of(step.specialist).double()[:, torch.from_numpy(step.columns)]
        else:
            stored = {name: torch.from_numpy(part).double() for name, part in step.head.arrays().items()}
            scale = stored.get("logit_scale", stored.get("scale", torch.ones(())))
            scores = scale * unit @ stored["weight"].T + stored.get("bias", 0.0)
        shares = (scores / step.temperature).softmax(dim=1)
        own = shares * torch.from_numpy(step.answers)
        passed = left * (1 - own.sum(dim=1))
        ends = passed < head.least_share
        found[:, torch.from_numpy(step.rows)] += left[:, None] * torch.where(ends[:, None], shares, own)
        left = torch.where(ends, 0.0, passed)
    return found


def test_product__the_bundle_says_what_torch_says(product: Path, run: Path, solids: DataSource) -> None:
    images: ImageSet = solids.split("test")
    specialist = Specialist.read(str(run.parent / "runs" / "shapes"))
    asked = torch.from_numpy(embed_images(specialist.student, images))
    embeddings = torch.from_numpy(embed_images(Student.load(product / "train"), images))
    with Predictor.open(product / "bundle", threads=1) as device:
        head = device.head
        assert isinstance(head, CascadeHead)
        assert (head.combine, head.least_share) == ("product", 0.1)
        given = device.predict([images.file(row) for row in range(len(images))], top_k=len(head.labels))
    wanted = by_chain_rule(head, embeddings, lambda name: {"shapes": asked}[name]).numpy()
    place = {label: row for row, label in enumerate(head.labels)}
    got = np.zeros_like(wanted)
    for row, one in enumerate(given):
        for label, probability in one.labels:
            got[row, place[label]] = probability
    np.testing.assert_allclose(got, wanted, atol=1e-5)
    np.testing.assert_allclose(got.sum(axis=1), 1, atol=1e-5)
    assert wanted[:, head.steps[2].rows].max() > 1e-3


def test_product__who_shared_in_the_answers(product: Path) -> None:
    result = json.loads((product / "result.json").read_text())
    steps = result["routing"]["steps"]
    assert [step["step"] for step in steps] == ["1 zero_shot", "2 nearest_mean", "3 shapes"]
    assert steps[0]["arrived"] == steps[1]["arrived"] == 64
    assert 0 < steps[2]["arrived"] < 64
    assert sum(step["answered"] for step in steps) == 64
    assert main(["evaluate", str(product)]) == 0
    figures = json.loads((product / "evaluate" / "test" / "routing.json").read_text())
    assert figures["accuracy"] == pytest.approx(result["routing"]["accuracy"])
    assert main(["verify", str(product / "bundle")]) == 0
