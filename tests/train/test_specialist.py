"""Specialists: which runs can be one, and that each image is shown to one once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgeproof_configs.errors import DataError, UsageError
from edgeproof_configs.run import RunDir
from edgeproof_data.sets import ImageSet, unlabelled
from edgeproof_train.embeddings import embed_images
from edgeproof_train.specialist import Consultation, Specialist, name_of
from edgeproof_train.students.timm import TimmStudent

CLASSES = ("pug", "poodle", "beagle")


def make_run(
    folder: Path, classes: tuple[str, ...] = CLASSES, stages: tuple[str, ...] = ("train", "export")
) -> Path:
    """Write what a finished run has of a specialist."""
    run = RunDir(folder / "dogs")
    student = TimmStudent(TimmStudent.Config(model="test_resnet.r160_in1k", image_size=32), len(CLASSES))
    student.classes = classes
    for stage in stages:
        run.stage(stage).mkdir(parents=True)
    files = student.save(run.stage("train"))
    (run.path / "recipe.resolved.yaml").write_text("name: dogs\n")
    if "export" in stages:
        (run.stage("export") / "model.onnx").write_bytes(b"a model")
    for stage in stages:
        run.finish(stage, "", files if stage == "train" else [], 0.0, {})
    return run.path


@pytest.fixture
def images(tmp_path: Path) -> ImageSet:
    rng = np.random.default_rng(0)
    names = [f"{number}.png" for number in range(5)]
    for name in names:
        Image.fromarray(rng.integers(0, 256, (40, 36, 3), dtype=np.uint8)).save(tmp_path / name)
    return unlabelled(tmp_path, names)


def test_read__a_finished_classifier(tmp_path: Path) -> None:
    found = Specialist.read(str(make_run(tmp_path)))
    assert (found.name, found.classes) == ("dogs", CLASSES)
    assert found.parameters == sum(parameter.numel() for parameter in found.student.parameters())
    assert found.preprocess == found.student.preprocess
    assert found.described()["onnx_bytes"] == 7
    assert Specialist.read("dogs", tmp_path).run.path == found.run.path


def test_read__what_is_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        Specialist.read(str(tmp_path / "nowhere"))
    with pytest.raises(UsageError, match="not a run directory"):
        Specialist.read(str(tmp_path))
    with pytest.raises(UsageError, match="has not finished its stage `export`"):
        Specialist.read(str(make_run(tmp_path / "a", stages=("train",))))
    with pytest.raises(UsageError, match="this student gives embeddings"):
        Specialist.read(str(make_run(tmp_path / "b", classes=())))


def test_name_of__the_last_part_of_the_path() -> None:
    assert name_of("runs/dogs-v2/") == "dogs-v2"
    with pytest.raises(UsageError, match="rename the folder"):
        name_of("runs/my dogs")


def test_consultation__each_image_is_looked_at_once(tmp_path: Path, images: ImageSet) -> None:
    specialist: Any = Specialist.read(str(make_run(tmp_path)))
    wanted = embed_images(specialist.student, images)
    ask = Consultation(images, {"dogs": specialist}, "cpu")
    assert ask("dogs", np.array([3, 1])) == pytest.approx(wanted[[3, 1]], abs=1e-5)
    assert ask.asked == {"dogs": 2}
    assert ask("dogs", np.array([1, 4, 3, 3])) == pytest.approx(wanted[[1, 4, 3, 3]], abs=1e-5)
    assert ask.asked == {"dogs": 3}
    assert ask.seconds["dogs"] > 0
    assert ask("dogs", np.zeros(0, np.int64)).shape == (0, 3)
