"""Which plan fits: on a stand-in for the device; what is rebuilt is built by the real TensorRT-RTX."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.deploy.runtime.gpu_stand_in import Gpu, install, plan_bytes

from edgeproof_configs.files import read_json, write_json
from edgeproof_deploy.runtime.bundle import MANIFEST, Bundle, manifest_digest
from edgeproof_deploy.runtime.cuda_device import CudaDevice
from edgeproof_deploy.runtime.errors import BundleError, UnavailableError
from edgeproof_deploy.runtime.plan_sidecar import PlanSettings, Sidecar, as_json
from edgeproof_deploy.runtime.plans import Here, misfits, open_plan_file, settings_for
from edgeproof_deploy.runtime.session import open_engine

ORIN = Here("tensorrt", "10.3.0", CudaDevice("Orin", "8.7", "540.4.0"), "linux aarch64")
PLAN = plan_bytes(shape=(-1, 3, 32, 32), batch=(1, 8))


def sidecar_of(**changes: Any) -> Sidecar:
    """Return the sidecar of a plan that fits the stand-in."""
    fits = Sidecar(
        engine="tensorrt",
        version="10.3.0",
        compute_capabilities=("8.6",),
        device="Stand-in GPU",
        system="linux x86_64",
        onnx="model.onnx",
        onnx_sha256="ab" * 32,
        plan="tensorrt-fp32-sm86.engine",
        plan_sha256=hashlib.sha256(PLAN).hexdigest(),
        plan_bytes=len(PLAN),
        settings=PlanSettings(),
    )
    return replace(fits, **changes)


def orin_plan(**changes: Any) -> Sidecar:
    return sidecar_of(compute_capabilities=("8.7",), system="linux aarch64", **changes)


@pytest.mark.parametrize(
    ("sidecar", "told"),
    [
        (orin_plan(), []),
        (orin_plan(onnx_sha256="cd" * 32), ["built from another model.onnx than this one"]),
        (orin_plan(version="10.16.2"), ["built by TensorRT 10.16.2, this is TensorRT 10.3.0"]),
        (
            sidecar_of(system="linux aarch64"),
            ["built for SM 8.6, this device (Orin) is 8.7"],
        ),
        (
            sidecar_of(compute_capabilities=("8.7",)),
            ["built on linux x86_64, this is linux aarch64"],
        ),
        (orin_plan(engine="tensorrt_rtx"), ["it is a plan of tensorrt_rtx"]),
        (orin_plan(version="10.2.0", settings=PlanSettings(version_compatible=True)), []),
        (
            orin_plan(version="11.0.0", settings=PlanSettings(version_compatible=True)),
            ["built by TensorRT 11.0.0, this is TensorRT 10.3.0"],
        ),
        (sidecar_of(system="linux aarch64", settings=PlanSettings(hardware_compatible="ampere_plus")), []),
    ],
)
def test_misfits__in_words(sidecar: Sidecar, told: list[str]) -> None:
    assert misfits(sidecar, ORIN, "ab" * 32) == told


def test_misfits__several_at_once() -> None:
    here = replace(ORIN, device=CudaDevice("Tesla T4", "7.5", "550.1"), version="11.4.0")
    old = sidecar_of(settings=PlanSettings(hardware_compatible="ampere_plus"))
    assert len(misfits(old, here)) == 3


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Gpu:
    monkeypatch.setenv("EDGEPROOF_CACHE", str(tmp_path / "cache"))
    return install(monkeypatch)


@pytest.fixture
def with_plan(bundle: Path, tmp_path: Path) -> Callable[..., Path]:
    """Return a copy of the bundle that holds one plan, with a manifest that fits."""

    def make(plan: bytes = PLAN, **changes: Any) -> Path:
        folder = Path(shutil.copytree(bundle, tmp_path / "with plan"))
        manifest = read_json(folder / MANIFEST)
        onnx = manifest["files"]["model.onnx"]["sha256"]
        sidecar = sidecar_of(**{"onnx_sha256": onnx} | changes)
        for name, content in ((sidecar.plan, plan), (f"{sidecar.plan[:-7]}.json", as_json(sidecar, {}))):
            (folder / "engines" / name).write_bytes(content)
            digest = hashlib.sha256(content).hexdigest()
            manifest["files"][f"engines/{name}"] = {"size": len(content), "sha256": digest}
        write_json(folder / MANIFEST, manifest | {"manifest_sha256": manifest_digest(manifest)})
        return folder

    return make


def test_open_engine__the_plan_that_fits(gpu: Gpu, with_plan: Callable[..., Path]) -> None:
    session = open_engine(Bundle(with_plan()), "tensorrt")
    assert session.model == "engines/tensorrt-fp32-sm86.engine"
    assert session.run({"image": np.zeros((20, 3, 32, 32), np.float32)})["embedding"].shape == (20, 3)


def test_open_engine__a_plan_of_another_gpu_and_the_command_that_mends_it(
    gpu: Gpu, with_plan: Callable[..., Path]
) -> None:
    gpu.capability = (8, 7)
    place = with_plan()
    with pytest.raises(UnavailableError) as caught:
        open_engine(Bundle(place), "tensorrt")
    assert caught.value.exit_code == 5
    assert str(caught.value) == (
        "tensorrt-fp32-sm86.engine does not fit: built for SM 8.6, this device (Stand-in GPU) is 8.7."
        " Build one for this device from model.onnx:"
        f" edgeproof predict {place} IMAGE --engine tensorrt --rebuild"
    )


def test_open_engine__a_bundle_without_a_plan(gpu: Gpu, bundle: Path) -> None:
    with pytest.raises(UnavailableError, match=r"holds no tensorrt plan of model\.onnx\. Build one"):
        open_engine(Bundle(bundle), "tensorrt")


def test_open_engine__a_plan_of_another_model(gpu: Gpu, with_plan: Callable[..., Path]) -> None:
    with pytest.raises(UnavailableError, match=r"built from another model\.onnx than this one"):
        open_engine(Bundle(with_plan(onnx_sha256="00" * 32)), "tensorrt")


@pytest.mark.parametrize(
    ("plan", "told"),
    [(PLAN[:-9], "was cut or changed"), (PLAN.replace(b"image", b"imagE"), "its sha256 is not the one")],
)
def test_open_engine__a_plan_cut_or_changed_before_it_was_packed(
    gpu: Gpu, with_plan: Callable[..., Path], plan: bytes, told: str
) -> None:
    with pytest.raises(BundleError, match=told):
        open_engine(Bundle(with_plan(plan)), "tensorrt")


def test_open_engine__a_damaged_sidecar(gpu: Gpu, with_plan: Callable[..., Path]) -> None:
    place = with_plan(plan_bytes=0)
    with pytest.raises(BundleError, match=r"tensorrt-fp32-sm86\.json: is damaged"):
        open_engine(Bundle(place), "tensorrt")


def test_open_engine__rebuilds_into_the_cache_and_leaves_the_bundle_alone(
    monkeypatch: pytest.MonkeyPatch, bundle: Path, tmp_path: Path
) -> None:
    real = pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed")
    monkeypatch.setenv("EDGEPROOF_CACHE", str(tmp_path / "cache"))
    gpu = install(monkeypatch, "tensorrt_rtx", real.__version__, real)
    gpu.capability = (8, 9)
    place = Path(shutil.copytree(bundle, tmp_path / "bundle"))
    before = {file: file.read_bytes() for file in place.rglob("*") if file.is_file()}
    with pytest.raises(UnavailableError, match="--engine tensorrt_rtx --rebuild"):
        open_engine(Bundle(place), "tensorrt_rtx")
    for rebuild in (True, False):
        session = open_engine(Bundle(place), "tensorrt_rtx", rebuild=rebuild)
        session.close()
    assert {file: file.read_bytes() for file in place.rglob("*") if file.is_file()} == before
    (sidecar,) = (tmp_path / "cache" / "plans").rglob("*.json")
    told = json.loads(sidecar.read_text())
    assert told["compute_capabilities"] == ["8.9"]
    assert told["onnx_sha256"] == hashlib.sha256((place / "model.onnx").read_bytes()).hexdigest()
    plan = sidecar.with_suffix(".engine")
    plan.write_bytes(plan.read_bytes()[:-100])
    with pytest.raises(UnavailableError, match="--rebuild"):
        open_engine(Bundle(place), "tensorrt_rtx")
    open_engine(Bundle(place), "tensorrt_rtx", rebuild=True).close()
    assert hashlib.sha256(plan.read_bytes()).hexdigest() == json.loads(sidecar.read_text())["plan_sha256"]


def test_settings_for__as_another_plan_was_built_else_as_the_recipe_says(
    gpu: Gpu, with_plan: Callable[..., Path], bundle: Path
) -> None:
    here = Here.of("tensorrt")
    assert settings_for(Bundle(bundle), "tensorrt", "model.onnx", here) == PlanSettings()
    built = PlanSettings(batch=(4, 1), cuda_graph=True, compute_capabilities=("8.9",))
    told = settings_for(Bundle(with_plan(settings=built)), "tensorrt", "model.onnx", here)
    assert told == replace(built, compute_capabilities=())
    rtx = replace(here, engine="tensorrt_rtx")
    told = settings_for(Bundle(bundle), "tensorrt_rtx", "model.sparse_int8.trt.onnx", rtx)
    assert told == PlanSettings(precision="int8", sparse=True, compute_capabilities=("8.6",))


def test_open_plan_file__without_its_sidecar(gpu: Gpu, tmp_path: Path) -> None:
    (tmp_path / "x.engine").write_bytes(PLAN)
    with pytest.raises(BundleError, match=r"x\.engine: cannot be read with its \.json: No such file"):
        open_plan_file(tmp_path / "x.engine", "tensorrt")


def test_here__what_is_missing(monkeypatch: pytest.MonkeyPatch, gpu: Gpu) -> None:
    assert Here.of("tensorrt").key == "tensorrt10.3.0-sm86-CUDA12.6"
    monkeypatch.setattr("edgeproof_deploy.runtime.tensorrt_package.find_spec", lambda name: None)
    with pytest.raises(UnavailableError, match="package tensorrt is not installed: it comes with JetPack"):
        Here.of("tensorrt")
