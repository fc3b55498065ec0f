from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import numpy as np
import pytest
import timm
import torch
from pydantic import ValidationError
from safetensors.torch import load_file, save_file
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler
from timm.data.config import resolve_model_data_config

from edgeproof_configs.errors import DataError, EdgeproofError, UsageError
from edgeproof_deploy.runtime.preprocess import Preprocess
from edgeproof_train.student import Student
from edgeproof_train.students.timm import TimmStudent, init_least_squares

DIM = 12


def make(root: Path | None = None, **settings: Any) -> TimmStudent:
    return TimmStudent(config(**settings), DIM, root)


def config(**settings: Any) -> TimmStudent.Config:
    return TimmStudent.Config.model_validate({"model": "test_resnet", "image_size": 32} | settings)


def images(size: int = 32) -> torch.Tensor:
    return torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    """Weights with a classifier, and a card with other preprocessing than timm's own."""
    folder = tmp_path / "pack"
    folder.mkdir()
    torch.manual_seed(3)
    save_file(timm.create_model("test_resnet", num_classes=7).state_dict(), folder / "model.safetensors")
    card = {
        "architecture": "test_resnet",
        "model_args": {"model_name": "test_resnet", "num_classes": 7, "drop_rate": 0.25},
        "mean": [0.1, 0.2, 0.3],
        "std": [0.4, 0.5, 0.6],
        "interpolation": "bicubic",
        "crop_pct": 0.8,
    }
    (folder / "config.json").write_text(json.dumps(card))
    return folder


@pytest.mark.parametrize("head", ["linear", "mlp"])
@pytest.mark.parametrize("model", ["test_resnet", "test_vit", "test_efficientnet"])
def test_forward__an_embedding_of_the_width_asked_for(model: str, head: str) -> None:
    student = make(model=model, head=head)
    outputs = student(images())
    assert outputs.embedding.shape == (3, DIM)
    assert student.pooled(images()).ndim == 2


@pytest.mark.parametrize("head", ["linear", "mlp"])
@pytest.mark.parametrize("model", ["test_resnet", "test_vit", "test_convnext"])
def test_save__load_gives_the_same_student(model: str, head: str, tmp_path: Path) -> None:
    student = make(model=model, head=head, mean=(0.5, 0.4, 0.3), resize_size=40)
    student(images())  # moves the running statistics of batch norms away from their start
    student.eval().save(tmp_path)
    again = Student.load(tmp_path)
    assert isinstance(again, TimmStudent)
    assert again.preprocess == student.preprocess
    assert again.embedding_dim == DIM
    assert not again.training
    with torch.no_grad():
        assert torch.equal(again(images()).embedding, student(images()).embedding)


def test_save__timm_reads_the_folder(tmp_path: Path) -> None:
    student = make().eval()
    student.save(tmp_path)
    model = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    with torch.no_grad():
        torch.testing.assert_close(model(images()), student(images()).embedding)
    data = resolve_model_data_config(model)
    assert tuple(data["input_size"]) == (3, 32, 32)
    assert tuple(data["mean"]) == student.preprocess.mean


def test_load__a_cut_file(tmp_path: Path) -> None:
    weights, _ = make().save(tmp_path)
    weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
    with pytest.raises(EdgeproofError, match="cut or damaged"):
        Student.load(tmp_path)


def test_load__not_ours(pack: Path, tmp_path: Path) -> None:
    with pytest.raises(EdgeproofError, match="not of a student"):
        Student.load(pack)
    with pytest.raises(EdgeproofError, match=r"config\.json is missing"):
        Student.load(tmp_path / "empty")


@pytest.mark.parametrize("named", ["pack", "pack/model.safetensors"])
def test_weights__a_local_file_without_its_classifier(named: str, pack: Path) -> None:
    student = make(pack.parent, weights=named)
    there = load_file(pack / "model.safetensors")
    assert torch.equal(student.backbone.state_dict()["conv1.0.weight"], there["conv1.0.weight"])


def test_weights__the_card_gives_preprocessing_and_arguments(pack: Path) -> None:
    student = make(weights=str(pack))
    assert student.preprocess == Preprocess(32, 40, "bicubic", (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert student.arguments == {"drop_rate": 0.25}


def test_weights__the_recipe_wins_over_the_card(pack: Path) -> None:
    settings = {
        "mean": (0, 0, 0),
        "interpolation": "nearest",
        "resize_size": 32,
        "kwargs": {"drop_rate": 0.5},
    }
    student = make(weights=str(pack), **settings)
    assert student.preprocess == Preprocess(32, 32, "nearest", (0, 0, 0), (0.4, 0.5, 0.6))
    assert student.arguments == {"drop_rate": 0.5}


def test_weights__of_another_architecture(pack: Path) -> None:
    with pytest.raises(UsageError, match="of 'test_resnet', the recipe's student is 'test_vit'"):
        make(model="test_vit", weights=str(pack))
    (pack / "config.json").unlink()
    with pytest.raises(EdgeproofError, match=r"78 missing: cls_token.*unknown: "):
        make(model="test_vit", weights=str(pack))


def test_weights__nothing_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        make(tmp_path, weights="absent.safetensors")
    with pytest.raises(DataError, match=r"has no model\.safetensors"):
        make(weights=str(tmp_path))


def test_weights__a_hub_out_of_reach(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(EdgeproofError, match=r"student\.weights: /path/to"):
        make(weights="hub")


def test_config__a_misspelt_model() -> None:
    with pytest.raises(ValidationError, match="Did you mean 'resnet18'"):
        config(model="resnet_18")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kwargs": {"num_classes": 5}}, "num_classes cannot be set here"),
        ({"resize_size": 16}, "at least image_size"),
        ({"std": (0.5, 0.5, 0)}, "std must be above 0"),
        ({"head": "mlp", "head_init": "least_squares"}, "use head: linear"),
        ({"ridge": 10}, "no effect without head_init"),
    ],
)
def test_config__settings_that_cannot_work(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        config(**settings)


def test_build__arguments_that_timm_does_not_know() -> None:
    with pytest.raises(UsageError, match="timm cannot build 'test_resnet'"):
        make(kwargs={"no_such_argument": 1})


def test_build__an_input_size_that_does_not_fit() -> None:
    with pytest.raises(UsageError, match="does not run on 40 x 40"):
        make(model="test_vit", image_size=40)


def test_build__features_that_are_not_pooled() -> None:
    with pytest.raises(UsageError, match="expected pooled features"):
        make(kwargs={"global_pool": ""})


def test_parameters__every_one_is_backbone_or_head() -> None:
    student = make()
    named = {name for part in (student.backbone_parameters(), student.head_parameters()) for name, _ in part}
    assert named == {name for name, _ in student.named_parameters()}
    assert {name for name, _ in student.head_parameters()} == {"head.weight", "head.bias"}


def test_init_least_squares__matches_scikit_learn() -> None:
    generator = np.random.default_rng(0)
    student = make()
    width = student.pooled(images()).shape[1]
    features = (generator.normal(size=(200, width)) * generator.uniform(0.1, 9, width) + 3).astype(np.float32)
    targets = generator.normal(size=(200, DIM)).astype(np.float32) + 0.3
    init_least_squares(student, features, targets, ridge=50.0)
    scaler = StandardScaler().fit(features.astype(np.float64))
    oracle = Ridge(alpha=50.0).fit(scaler.transform(features), targets)
    with torch.no_grad():
        ours = student.head(torch.from_numpy(features)).numpy()
    np.testing.assert_allclose(ours, oracle.predict(scaler.transform(features)), atol=1e-4)


def test_init_least_squares__a_dead_channel_gets_no_weight() -> None:
    student = make()
    width = student.pooled(images()).shape[1]
    features = np.random.default_rng(0).normal(size=(50, width)).astype(np.float32)
    features[:, 5] = 2.0
    init_least_squares(student, features, np.ones((50, DIM), np.float32), ridge=1.0)
    head: Any = student.head
    assert not head.weight[:, 5].any()
    assert head.weight.isfinite().all()


def test_init_least_squares__shapes_are_checked() -> None:
    with pytest.raises(ValueError, match=r"expected features \(N, 96\)"):
        init_least_squares(make(), np.zeros((4, 3)), np.zeros((4, DIM)))
    with pytest.raises(ValueError, match="linear head"):
        init_least_squares(make(head="mlp"), np.zeros((4, 96)), np.zeros((4, DIM)))
