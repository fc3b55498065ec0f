"""A small student, its ONNX file and photos, made once for all tests of deployment."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from edgeproof_deploy.export import export_onnx
from edgeproof_train.student import Student
from edgeproof_train.students.timm import TimmStudent

SIDE, WIDTH = 32, 16


def make_student(model: str = "test_resnet", side: int = SIDE, **settings: Any) -> Student:
    """Return a student whose batch norms have statistics as after some training."""
    torch.manual_seed(3)
    config = TimmStudent.Config.model_validate({"model": model, "image_size": side, **settings})
    student = TimmStudent(config, WIDTH)
    student.train()
    with torch.no_grad():
        for _ in range(4):
            student(torch.randn(8, 3, side, side) * 2 + 0.5)
    return student.eval()


@pytest.fixture(scope="session")
def student_of() -> Callable[..., Student]:
    return make_student


@pytest.fixture(scope="session")
def student() -> Student:
    return make_student()


@pytest.fixture(scope="session")
def onnx_file(student: Student, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("export") / "model.onnx"
    export_onnx(student, path, metadata={"recipe": "test"})
    return path


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Twelve smooth photos of unequal shapes."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(5)
    files = []
    for number in range(12):
        coarse = Image.fromarray(rng.integers(0, 256, (4, 5, 3), dtype=np.uint8))
        files.append(folder / f"photo {number}.png")
        coarse.resize((40 + number, 48 - number), Image.Resampling.BICUBIC).save(files[-1])
    return files


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with room for 256 kB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", place], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"a small tmpfs cannot be mounted here: {mounted.stderr.decode().strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)
