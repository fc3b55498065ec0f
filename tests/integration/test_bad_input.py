"""Recipes that cannot work are refused, with the way out, before any image is decoded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from tests.integration import tiny

from edgeproof.__main__ import QUIET, main

pytestmark = pytest.mark.integration

AUGMENT = {"epochs": 2, "batch_size": 8, "warmup_epochs": 0.5, "workers": 0, "augment": {"flip": 0.5}}
LABELS, TAUGHT = {"kind": "cross_entropy"}, {"kind": "soft_target"}
ATTENTION = "attention_transfer"


def nodes(student: str, teacher: str) -> list[dict[str, str]]:
    return [{"student": student, "teacher": teacher}]


@pytest.fixture(scope="module")
def unreadable(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return data of which no image can be decoded."""
    root = tiny.make_data(tmp_path_factory.mktemp("data"))
    for image in root.rglob("*.png"):
        image.write_bytes(b"no image, and another one each: " + str(image).encode())
    return root


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the weights of teachers of 3 and of 5 classes, and of another network."""
    folder = tmp_path_factory.mktemp("weights")
    for name, model, classes in (
        ("three", "test_resnet", 3),
        ("five", "test_resnet", 5),
        ("vit", "test_vit", 3),
    ):
        torch.manual_seed(0)
        save_file(timm.create_model(model, num_classes=classes).state_dict(), folder / f"{name}.safetensors")
    return folder


@pytest.fixture
def refused(
    unreadable: Path,
    weights: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Any:
    """Return `refused(**changes)`: ship a recipe, give exit code and message.

    `teacher` is the name of its weights and `view` its view, `data` are settings beside the root; other
    changes are parts of the recipe.
    """
    for name, value in QUIET.items():
        monkeypatch.setenv(name, value)

    def ship(
        teacher: str = "three", view: str = "exact", data: dict[str, Any] | None = None, **changes: Any
    ) -> tuple[int, str]:
        file = str(weights / f"{teacher}.safetensors")
        source = {
            "kind": "image_folder",
            "root": str(unreadable),
            "train": "train",
            "test": "test",
            "val": 0.25,
        }
        standard: dict[str, Any] = {
            "data": source | (data or {}),
            "teacher": {"kind": "timm", "model": "test_resnet", "weights": file, "view": view},
            "head": {"kind": "classifier"},
            "losses": [LABELS, TAUGHT],
            "baseline": None,
            "train": AUGMENT,
        }
        recipe = tiny.make_recipe(tmp_path, unreadable, **{**standard, **changes})
        code = main(["ship", str(recipe), "--run", str(tmp_path / "run"), "--device", "cpu"])
        assert not list((tmp_path / "run").rglob("corrupt.csv"))
        return code, " ".join(capsys.readouterr().err.split())

    return ship


def test_ship__a_good_recipe_gets_as_far_as_the_images(refused: Any) -> None:
    """Without this one the others would prove nothing."""
    code, message = refused()
    assert code == 1
    assert "no image that can be read" in message


@pytest.mark.parametrize(
    ("changes", "what", "fix"),
    [
        pytest.param(
            {"teacher": "five"},
            "the teacher tells 5 classes apart, the data have 3",
            "do: train a teacher on these classes",
            id="class counts",
        ),
        pytest.param(
            {"losses": [LABELS, {"kind": ATTENTION, "nodes": nodes("layer4", "fc")}]},
            "a map of one place says nothing about where: student (B,",
            "do: name nodes before the pooling",
            id="node shapes",
        ),
        pytest.param(
            {"losses": [LABELS, {"kind": "hint", "regressor": "none", "nodes": nodes("layer1", "layer4")}]},
            "hint: the channels differ: student (B,",
            "do: set regressor: conv",
            id="node channels",
        ),
        pytest.param(
            {"losses": [LABELS, {"kind": ATTENTION, "nodes": nodes("layer9", "layer4")}]},
            "the network has no node 'layer9'. Did you mean",
            "do: name one of conv1",
            id="student's node",
        ),
        pytest.param(
            {"losses": [LABELS, {"kind": ATTENTION, "nodes": nodes("layer4", "blocks.4")}]},
            "the network has no node 'blocks.4'",
            "do: name one of conv1",
            id="teacher's node",
        ),
        pytest.param(
            {"losses": [LABELS, TAUGHT, {"kind": "r_drop"}]},
            "losses.2: r_drop compares two equal passes",
            "set student.kwargs: {drop_rate: 0.2}",
            id="R-Drop without dropout",
        ),
        pytest.param(
            {"teacher": "vit"},
            "the weights are of another model: ",
            "do: name the architecture that the file was made with",
            id="weights of another architecture",
        ),
        pytest.param(
            {"losses": [LABELS, {"kind": "dkd"}], "train": AUGMENT | {"mix": {"mixup": 0.2}}},
            "losses.1: dkd needs one label an image, and train.mix mixes two",
            "remove one of them",
            id="DKD with mixup",
        ),
        pytest.param(
            {"view": "assume_invariant"},
            "teacher.view: 'assume_invariant' is for pooled embeddings: class scores and feature maps change",
            "say 'exact', and teacher.stored_views",
            id="stored class scores of views that were not stored",
        ),
        pytest.param(
            {
                "data": {"labels": "none"},
                "head": {"kind": "zero_shot", "text_embeddings": "text.npy", "labels": "labels.txt"},
                "losses": [{"kind": "cosine_embedding"}, {"kind": "label_cross_entropy"}],
            },
            "losses.1: label_cross_entropy needs labels, and data.labels is 'none'",
            "remove it, or label the images",
            id="labels that are not there",
        ),
    ],
)
def test_ship__refused(changes: dict[str, Any], what: str, fix: str, refused: Any) -> None:
    code, message = refused(**changes)
    assert code == 2, message
    assert what in message
    assert fix in message
