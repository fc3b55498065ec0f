"""A small student, its ONNX file and photos, made once for all tests of deployment."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from edgeproof_configs.files import read_json, write_json
from edgeproof_deploy.bundle import BundleParts, write_bundle
from edgeproof_deploy.export import export_onnx
from edgeproof_deploy.runtime.bundle import MANIFEST, manifest_digest
from edgeproof_deploy.runtime.plan_sidecar import PlanSettings, Sidecar, as_json
from edgeproof_train.heads.zero_shot import ZeroShotHead
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


@pytest.fixture(scope="session")
def head() -> ZeroShotHead:
    """Six labels with text embeddings of their own."""
    rows = np.random.default_rng(9).standard_normal((6, WIDTH))
    labels = ("red cube", "blue cone", "ball", "käse", "a, b", "ring")
    return ZeroShotHead(ZeroShotHead.Config(), labels, rows.astype(np.float32), logit_scale=20.0)


@pytest.fixture(scope="session")
def parts(
    onnx_file: Path, student: Student, head: ZeroShotHead, tmp_path_factory: pytest.TempPathFactory
) -> BundleParts:
    """What a bundle is made from; the plan is a stand-in, since it is never loaded."""
    folder = tmp_path_factory.mktemp("parts")
    head.save(folder)
    write_json(folder / "parity.json", {"schema_version": 1, "pairs": []})
    (folder / "report.html").write_text("<html>report</html>")
    plan, sidecar = folder / "tensorrt_rtx-fp32-sm86.engine", folder / "tensorrt_rtx-fp32-sm86.json"
    plan.write_bytes(bytes(range(256)) * 40)
    said = {"status": "built, not run here", "reason": "there is no driver"}
    sidecar.write_bytes(as_json(stand_in_sidecar(plan, onnx_file), said))
    return BundleParts(
        name="tiny",
        models=[onnx_file],
        head=folder,
        preprocess=student.preprocess,
        parity=folder / "parity.json",
        report=folder / "report.html",
        engines=[plan, sidecar],
        facts={"verdict": "Ship it.", "recipe": {"name": "tiny"}},
    )


def stand_in_sidecar(plan: Path, onnx: Path) -> Sidecar:
    return Sidecar(
        engine="tensorrt_rtx",
        version="1.0",
        compute_capabilities=("8.6",),
        device="",
        system="linux x86_64",
        onnx=onnx.name,
        onnx_sha256=hashlib.sha256(onnx.read_bytes()).hexdigest(),
        plan=plan.name,
        plan_sha256=hashlib.sha256(plan.read_bytes()).hexdigest(),
        plan_bytes=plan.stat().st_size,
        settings=PlanSettings(compute_capabilities=("8.6",)),
    )


@pytest.fixture(scope="session")
def bundle(parts: BundleParts, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle as a folder, with its tar beside it. Tests that change it work on a copy."""
    folder = tmp_path_factory.mktemp("bundles") / "tiny"
    write_bundle(folder, parts, tar=folder.with_suffix(".tar"))
    return folder


@pytest.fixture
def rewritten(bundle: Path, tmp_path: Path) -> Callable[[str, bytes], Path]:
    """Return a copy of the bundle with other bytes in a file and a manifest that fits them."""

    def rewrite(name: str, content: bytes) -> Path:
        folder = Path(shutil.copytree(bundle, tmp_path / "rewritten"))
        (folder / name).write_bytes(content)
        manifest = read_json(folder / MANIFEST)
        manifest["files"][name] = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        write_json(folder / MANIFEST, manifest | {"manifest_sha256": manifest_digest(manifest)})
        return folder

    return rewrite


@pytest.fixture
def small_disk(make_disk: Callable[[str], Path]) -> Path:
    """Return a disk with room for 256 kB."""
    return make_disk("256k")
