from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.integration.tiny import make_data

from edgeproof_configs.errors import DataError, EdgeproofError, UsageError
from edgeproof_configs.registry import build, component_class
from edgeproof_data.kinds.image_folder import ImageFolder
from edgeproof_data.sets import DataSource
from edgeproof_train.teacher import TeacherPlaces
from edgeproof_train.teachers.contrastive import ContrastiveTeacher

SETTINGS: dict[str, Any] = {
    "model": "test_resnet.r160_in1k",
    "image_size": 32,
    "embedding_dim": 16,
    "text_width": 32,
    "text_layers": 1,
    "epochs": 4,
    "batch_size": 9,
    "warmup_epochs": 0.5,
}


def captioned(root: Path, colours: bool = True) -> DataSource:
    """Return the tiny pictures with captions that name, or do not only name, their colour."""
    make_data(root)
    lines = ["path,caption"]
    for file in sorted(root.rglob("*.png")):
        path = file.relative_to(root).as_posix()
        lines.append(f"{path},a photo of a {file.parent.name.replace('_', ' ')}")
        if colours:
            lines.append(f"{path},a square")
    (root / "captions.csv").write_text("\n".join(lines) + "\n")
    config = {"root": str(root), "val": 0.25, "captions": "captions.csv"}
    return build("data", ImageFolder.Config.model_validate(config))


def train(
    source: DataSource, folder: Path, **changes: Any
) -> tuple[ContrastiveTeacher, list[dict[str, Any]]]:
    config = ContrastiveTeacher.Config(**SETTINGS | changes)
    rows: list[dict[str, Any]] = []
    folder.mkdir(exist_ok=True)
    ContrastiveTeacher.train_in_place(config, source, folder, "cpu", rows.append)
    return ContrastiveTeacher(config, TeacherPlaces(source.root, folder)), rows


def test_train_in_place__learns_and_is_read_again(tmp_path: Path) -> None:
    source = captioned(tmp_path / "data")
    teacher, rows = train(source, tmp_path / "teacher", epochs=12, lr=5e-3)
    assert rows[-1]["loss"] < 0.8 * rows[0]["loss"]
    assert [row["epoch"] for row in rows] == list(range(1, 13))
    assert teacher.encode_image(torch.zeros(2, 3, 32, 32)).shape == (2, 16)
    again = ContrastiveTeacher(teacher.config, TeacherPlaces(source.root, tmp_path / "teacher"))
    text = ["a photo of a red square"]
    assert torch.equal(teacher.encode_text(text), again.encode_text(text))
    assert teacher.identity() == again.identity()
    assert not any(parameter.requires_grad for parameter in teacher.model.parameters())


def test_train_in_place__the_same_seed_gives_the_same_bits(tmp_path: Path) -> None:
    source = captioned(tmp_path / "data")
    settings = {"epochs": 2, "recolour": 0.5, "colours": ("red", "green", "blue")}
    first, _ = train(source, tmp_path / "a", **settings)
    second, _ = train(source, tmp_path / "b", **settings)
    third, _ = train(source, tmp_path / "c", **settings, seed=1)
    assert first.identity() == second.identity()
    assert first.identity() != third.identity()


def test_train_in_place__recolouring_needs_captions_without_colours(tmp_path: Path) -> None:
    source = captioned(tmp_path / "data", colours=False)
    with pytest.raises(DataError, match="no caption without"):
        train(source, tmp_path / "teacher", recolour=0.5, colours=("red", "green", "blue"))


def test_train_in_place__data_without_captions_are_refused(tmp_path: Path) -> None:
    make_data(tmp_path / "data")
    source = build("data", ImageFolder.Config.model_validate({"root": str(tmp_path / "data"), "val": 0.25}))
    with pytest.raises(DataError, match=r"captions"):
        train(source, tmp_path / "teacher")


def test_teacher__before_it_is_trained(tmp_path: Path) -> None:
    config = ContrastiveTeacher.Config(**SETTINGS)
    with pytest.raises(EdgeproofError, match="not been trained yet"):
        ContrastiveTeacher(config, TeacherPlaces(None, tmp_path))


def test_teacher__a_cut_checkpoint_is_explained(tmp_path: Path) -> None:
    source = captioned(tmp_path / "data")
    train(source, tmp_path / "teacher", epochs=1)
    weights = tmp_path / "teacher" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(EdgeproofError, match="cut or damaged"):
        ContrastiveTeacher(ContrastiveTeacher.Config(**SETTINGS), TeacherPlaces(None, tmp_path / "teacher"))


def test_teacher__an_unknown_word_is_refused(tmp_path: Path) -> None:
    teacher, _ = train(captioned(tmp_path / "data"), tmp_path / "teacher", epochs=1)
    with pytest.raises(UsageError, match="giraffe"):
        teacher.encode_text(["a photo of a giraffe"])


def test_registry__finds_it_by_kind() -> None:
    assert component_class("teacher", "contrastive") is ContrastiveTeacher
    preprocess = ContrastiveTeacher.Config(**SETTINGS).preprocess()
    assert np.ptp(preprocess.mean) == 0
