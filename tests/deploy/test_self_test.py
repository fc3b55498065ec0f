"""The self-test of a bundle: written beside the student, read and run by the runtime."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgeproof_configs.files import write_json
from edgeproof_deploy.bundle import BundleParts, manifest_of, write_bundle
from edgeproof_deploy.engine import open_onnx
from edgeproof_deploy.runtime.bundle import MANIFEST, Bundle
from edgeproof_deploy.runtime.errors import BundleError
from edgeproof_deploy.runtime.model_interface import Session
from edgeproof_deploy.runtime.preprocess import open_image
from edgeproof_deploy.runtime.self_test import SelfTestResult, read_self_test, run_self_test, self_test_inputs
from edgeproof_deploy.runtime.session import OnnxSession
from edgeproof_deploy.self_test import kept_photo, write_self_test
from edgeproof_deploy.torch_session import TorchSession
from edgeproof_train.student import Student


@pytest.fixture(scope="module")
def tested(
    parts: BundleParts,
    student: Student,
    onnx_file: Path,
    photos: list[Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A bundle with a self-test of four photos."""
    folder = tmp_path_factory.mktemp("tested")
    models = {"model.onnx": (open_onnx(onnx_file, threads=1), "fp32")}
    files = write_self_test(
        folder / "self_test", photos[:4], student.preprocess, TorchSession(student), models
    )
    write_bundle(folder / "bundle", replace(parts, self_test=files), tar=folder / "bundle.tar")
    return folder / "bundle"


@pytest.fixture
def changed(tested: Path, parts: BundleParts, tmp_path: Path) -> Callable[[str, bytes], Path]:
    """Return a copy of the bundle in which one file has other bytes, and the manifest says so."""

    def change(name: str, content: bytes) -> Path:
        folder = tmp_path / "changed"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(tested, folder)
        (folder / name).write_bytes(content)
        (folder / MANIFEST).unlink()
        write_json(folder / MANIFEST, manifest_of(folder, parts))
        return folder

    return change


def run(folder: Path, student: Student, session: Session | None = None) -> SelfTestResult:
    bundle = Bundle(folder)
    opened = session or OnnxSession(bundle.read("model.onnx"), threads=1)
    return run_self_test(bundle, student.preprocess, opened, "model.onnx")


def test_write_self_test__the_same_model_passes_from_folder_and_tar(tested: Path, student: Student) -> None:
    for place in (tested, tested.with_suffix(".tar")):
        found = run(place, student)
        assert found.failures == ()
        assert found.photos == 4
        assert found.cosine_min == 1
        assert found.reference_cosine_min > 0.9999


def test_write_self_test__is_small_and_says_what_it_holds(tested: Path) -> None:
    files = list((tested / "self_test").iterdir())
    assert len(files) == 4 + 7 + 2
    assert sum(file.stat().st_size for file in files) < 100_000
    test = read_self_test(Bundle(tested))
    assert test is not None
    assert [image.edge for image in test.images] == [False] * 4 + [True] * 7
    assert set(test.outputs) == {"reference", "model.onnx"}
    readme = (tested / "README.md").read_text()
    assert "--self-test" in readme
    assert "self_test/outputs.safetensors" in readme


def test_kept_photo__is_what_the_network_sees_and_no_larger_than_needed(
    photos: list[Path], student: Student, tmp_path: Path
) -> None:
    kept = kept_photo(photos[0], tmp_path / "x.png", student.preprocess)
    with Image.open(kept) as image:
        assert image.size == (32, 32)
    large = replace(student.preprocess, image_size=300, resize_size=320)
    with Image.open(kept_photo(photos[0], tmp_path / "y.png", large)) as image:
        assert image.size == (224, 224)
    seen = student.preprocess.pixels(open_image(photos[0]))
    assert (np.asarray(Image.open(kept)) == seen).all()


class Drifted(Session):
    """An engine that adds noise to what another gives."""

    def __init__(self, session: Session, noise: float, broken: bool = False):
        self.session, self.noise, self.broken = session, noise, broken
        self.rng = np.random.default_rng(0)
        self.inputs, self.outputs = session.inputs, session.outputs

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        rows = self.session.run(inputs)["embedding"]
        rows = rows + self.noise * rows.std() * self.rng.standard_normal(rows.shape).astype(np.float32)
        return {"embedding": np.full_like(rows, np.nan) if self.broken else rows}

    def close(self) -> None:
        """Nothing to free."""


def test_run_self_test__an_engine_that_drifts_is_named_image_by_image(tested: Path, student: Student) -> None:
    session = OnnxSession(Bundle(tested).read("model.onnx"), threads=1)
    assert run(tested, student, Drifted(session, 1e-4)).failures == ()
    found = run(tested, student, Drifted(session, 0.1))
    assert found.cosine_min < 0.9999
    assert any(line.startswith("self_test/00.png: cosine to the stored embedding") for line in found.failures)
    broken = run(tested, student, Drifted(session, 0, broken=True)).failures
    assert "self_test/black.png: model.onnx gives NaN or infinity" in broken


def test_run_self_test__other_preprocessing_is_found(tested: Path, student: Student) -> None:
    bundle = Bundle(tested)
    other = replace(student.preprocess, resize_size=student.preprocess.resize_size + 5)
    test = read_self_test(bundle)
    assert test is not None
    _, differing = self_test_inputs(bundle, test, other)
    assert {"self_test/00.png", "self_test/grey.png"} <= set(differing)
    found = run_self_test(bundle, other, OnnxSession(bundle.read("model.onnx"), threads=1), "model.onnx")
    assert found.failures[0].endswith("its pixels are not those that it had when the bundle was made")


def test_read_self_test__a_bundle_without_one(bundle: Path, student: Student) -> None:
    assert read_self_test(Bundle(bundle)) is None
    with pytest.raises(BundleError, match="was made without a self-test"):
        run(bundle, student)


def test_run_self_test__of_a_model_that_it_does_not_know(tested: Path, student: Student) -> None:
    bundle = Bundle(tested)
    session = OnnxSession(bundle.read("model.onnx"), threads=1)
    for name in ("model.int8.onnx", "reference"):
        with pytest.raises(BundleError, match="has no outputs of"):
            run_self_test(bundle, student.preprocess, session, name)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema_version": 2}, "not a self-test of schema version 1"),
        ({"images": []}, "no list of images"),
        ({"images": [{"file": "model.onnx", "pixels_sha256": "x"}]}, "without file, pixels_sha256 or edge"),
        ({"images": [{"file": "../x.png", "pixels_sha256": "x", "edge": True}]}, "not in the bundle"),
        ({"images": [{"file": "labels.txt", "pixels_sha256": "x", "edge": False}]}, "does not hold 1 emb"),
        ({"limits": {"model.onnx": "high"}}, "is no limit of a model"),
        ({"limits": {}}, "expected the models"),
        ({"edge_limits": {"other.onnx": 0.5}}, "expected the models"),
    ],
)
def test_read_self_test__what_does_not_fit_is_refused(
    change: dict[str, Any], message: str, tested: Path, changed: Callable[[str, bytes], Path]
) -> None:
    plain = json.loads((tested / "self_test" / "self_test.json").read_text()) | change
    with pytest.raises(BundleError, match=message):
        read_self_test(Bundle(changed("self_test/self_test.json", json.dumps(plain).encode())))


def test_read_self_test__damaged_files_are_read_or_refused(
    tested: Path, student: Student, changed: Callable[[str, bytes], Path]
) -> None:
    """A thousand damaged indices: refused in words, or read to something that still fits together."""
    whole, rng = (tested / "self_test" / "self_test.json").read_bytes(), random.Random(9)

    class Damaged(Bundle):
        index = b""

        def read(self, name: str) -> bytes:
            return self.index if name == "self_test/self_test.json" else super().read(name)

    bundle, refused = Damaged(tested), 0
    for _ in range(1000):
        data = bytearray(whole)
        start = rng.randrange(len(data))
        stop = min(len(data), start + rng.randint(1, 30))
        data[start:stop] = rng.choice([b"", b"null", b"true", b"-1e999", b"[[", bytes([rng.randrange(256)])])
        bundle.index = bytes(data)
        try:
            read_self_test(bundle)
        except BundleError:
            refused += 1
    assert refused > 300
