from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file

from edgeproof_configs.errors import UsageError
from edgeproof_train.student import Student
from edgeproof_train.students.multi_view import MultiViewStudent
from edgeproof_train.students.timm import TimmStudent

MODEL, SIDE = "mobilenetv2_035", 32


def student(**settings: object) -> TimmStudent:
    config = {"model": MODEL, "image_size": SIDE, "stages": 5} | settings
    return TimmStudent(TimmStudent.Config.model_validate(config), 10).eval()


def test_keep_first__is_the_map_of_that_stage_pooled(tmp_path: Path) -> None:
    whole: Any = timm.create_model(MODEL, num_classes=7).eval()
    save_file(whole.state_dict(), tmp_path / "model.safetensors")
    cut = student(weights=str(tmp_path / "model.safetensors"))
    image = torch.randn(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        stem = whole.bn1(whole.conv_stem(image))
        expected = whole.blocks[:5](stem).mean(dim=(2, 3))
        assert torch.equal(cut.pooled(image), expected)
    assert cut.card()["num_features"] == expected.shape[1]
    names = {name.split(".")[1] for name, _ in cut.backbone.named_parameters() if name.startswith("blocks")}
    assert names == {"0", "1", "2", "3", "4"}


@pytest.mark.parametrize("kind", ["timm", "multi_view"])
def test_save__keeps_the_cut(kind: str, tmp_path: Path) -> None:
    cut = student()
    if kind == "multi_view":
        config = {"model": MODEL, "image_size": SIDE, "stages": 5, "pool_at": "blocks.2"}
        cut = MultiViewStudent(MultiViewStudent.Config.model_validate(config), 10).eval()
    cut.save(tmp_path)
    again = Student.load(tmp_path)
    image = torch.randn(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(cut(image).embedding, again(image).embedding)


@pytest.mark.parametrize(
    ("model", "stages", "told"),
    [
        ("resnet10t", 2, "'resnet10t' cannot be cut after a stage"),
        (MODEL, 7, "has 7 stages: keeping 7 of them changes nothing"),
    ],
)
def test_keep_first__refuses(model: str, stages: int, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        student(model=model, stages=stages)
