from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper
from tests.deploy.runtime.gpu_stand_in import install

from edgeproof_configs.errors import EdgeproofError, MissingPackageError
from edgeproof_deploy.engine import BuildOptions, make_engine
from edgeproof_deploy.engines.tensorrt import TensorRT, TensorRTRTX
from edgeproof_deploy.runtime.cuda_device import why_no_cuda
from edgeproof_deploy.runtime.plan_layers import layers_of

pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed")


def one_node(path: Path, operator: str) -> Path:
    """Write a valid ONNX file with one operator on (batch, 4)."""
    value = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 4])
        for name in ("image", "embedding")
    ]
    graph = helper.make_graph(
        [helper.make_node(operator, ["image"], ["embedding"], "odd")], "g", value[:1], value[1:]
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return path


def test_build__a_plan_for_another_machine_with_its_sidecar(onnx_file: Path, tmp_path: Path) -> None:
    engine = make_engine("tensorrt_rtx")
    plan = engine.build(onnx_file, tmp_path, BuildOptions(batch=(2, 1, 8)))
    assert plan.name == "tensorrt_rtx-fp32-sm86.engine"
    assert plan.stat().st_size > 100_000
    sidecar = json.loads(plan.with_suffix(".json").read_text())
    assert sidecar["engine"] == "tensorrt_rtx"
    assert sidecar["settings"]["precision"] == "fp32"
    assert sidecar["tf32"] is False
    assert sidecar["compute_capabilities"] == ["8.6"]
    assert sidecar["onnx_sha256"] == hashlib.sha256(onnx_file.read_bytes()).hexdigest()
    assert sidecar["plan_sha256"] == hashlib.sha256(plan.read_bytes()).hexdigest()
    bounds = (("smallest", 1), ("tuned_for", 2), ("largest", 8))
    shapes = {bound: [size, 3, 32, 32] for bound, size in bounds}
    assert sidecar["profile"] == {"image": shapes}
    assert sidecar["outputs"] == ["embedding"]
    assert sidecar["status"] == "built, not run here"
    assert sidecar["reason"] == engine.why_not_here()
    assert sidecar["version"][0].isdigit()
    assert engine.files(plan) == [plan, plan.with_suffix(".json")]


def test_build__every_capability_of_the_recipe(onnx_file: Path, tmp_path: Path) -> None:
    engine = make_engine("tensorrt_rtx")
    for capability in ("8.0", "8.9", "12.0", "12.1"):
        plan = engine.build(onnx_file, tmp_path, BuildOptions(compute_capability=capability))
        assert plan.name == f"tensorrt_rtx-fp32-sm{capability.replace('.', '')}.engine"
        assert json.loads(plan.with_suffix(".json").read_text())["compute_capabilities"] == [capability]


def test_build__one_plan_for_several_capabilities(onnx_file: Path, tmp_path: Path) -> None:
    several = ("8.0", "8.6", "8.9", "12.0", "12.1")
    options = BuildOptions(compute_capability=several, label="sparse_fp32", sparse=True)
    plan = make_engine("tensorrt_rtx").build(onnx_file, tmp_path, options)
    assert plan.name == "tensorrt_rtx-sparse_fp32-sm80-sm86-sm89-sm120-sm121.engine"
    sidecar = json.loads(plan.with_suffix(".json").read_text())
    assert sidecar["compute_capabilities"] == list(several)
    assert sidecar["flags"] == ["SPARSE_WEIGHTS"]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"compute_capability": "7.5"}, "no fp32 matrix products for compute capability 7.5"),
        (
            {"compute_capability": ("8.6", "8.7")},
            r"cannot build for compute capability 8\.7.*need engine tensorrt",
        ),
    ],
)
def test_build__a_capability_that_cannot_be_built_for(
    onnx_file: Path, tmp_path: Path, changes: dict[str, Any], told: str
) -> None:
    with pytest.raises(MissingPackageError, match=told) as caught:
        make_engine("tensorrt_rtx").build(onnx_file, tmp_path / "out", BuildOptions(**changes))
    assert caught.value.exit_code == 5
    assert not (tmp_path / "out").exists()


def test_build__the_first_complaint_of_the_parser_is_reported(tmp_path: Path) -> None:
    model = one_node(tmp_path / "odd.onnx", "Det2")
    with pytest.raises(
        EdgeproofError, match=r"cannot be parsed as a TensorRT-RTX plan: Det2 'odd'"
    ) as caught:
        make_engine("tensorrt_rtx").build(model, tmp_path / "out", BuildOptions())
    assert caught.value.where == str(model)
    assert not (tmp_path / "out").exists()


def test_build__a_damaged_file(tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"\x00\x01 no model")
    with pytest.raises(EdgeproofError, match="cannot be parsed as a TensorRT-RTX plan: "):
        make_engine("tensorrt_rtx").build(broken, tmp_path / "out", BuildOptions())


def test_open__says_why_it_does_not_run_here(tmp_path: Path) -> None:
    engine = make_engine("tensorrt_rtx")
    assert not engine.runs_here
    assert engine.status == "built, not run here"
    with pytest.raises(MissingPackageError, match="engine tensorrt_rtx: ") as caught:
        engine.open(tmp_path / "x.engine")
    assert caught.value.exit_code == 5
    assert str(engine.why_not_here()) in str(caught.value)


def test_build__where_the_plan_can_be_opened_its_layers_lie_beside_it(
    onnx_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Built by the real package; device and loading are a stand-in."""
    import tensorrt_rtx

    gpu = install(monkeypatch, "tensorrt_rtx", tensorrt_rtx.__version__, tensorrt_rtx)
    engine = make_engine("tensorrt_rtx")
    plan = engine.build(onnx_file, tmp_path, BuildOptions(compute_capability=("8.6", "8.9")))
    sidecar = json.loads(plan.with_suffix(".json").read_text())
    assert (sidecar["status"], sidecar["reason"]) == ("run here", None)
    layers = plan.with_suffix(".layers.json")
    assert engine.files(plan) == [plan, plan.with_suffix(".json"), layers]
    assert [layer.name for layer in layers_of(layers.read_text())] == ["pool"]
    assert engine.why_not_here(plan) is None
    engine.open(plan).close()
    gpu.capability = (12, 0)
    misfit = "built for SM 8.6, 8.9, this device (Stand-in GPU) is 12.0"
    assert engine.why_not_here() is None
    assert engine.why_not_here(plan) == misfit
    with pytest.raises(MissingPackageError, match=r"does not fit: built for SM 8\.6, 8\.9, this device"):
        engine.open(plan)
    elsewhere = engine.build(onnx_file, tmp_path, BuildOptions(label="again"))
    sidecar = json.loads(elsewhere.with_suffix(".json").read_text())
    assert sidecar["status"] == "built, not run here"
    assert sidecar["reason"] == "built for SM 8.6, this device (Stand-in GPU) is 12.0"
    assert engine.files(elsewhere) == [elsewhere, elsewhere.with_suffix(".json")]


def test_open__a_plan_that_was_cut(onnx_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tensorrt_rtx

    install(monkeypatch, "tensorrt_rtx", tensorrt_rtx.__version__, tensorrt_rtx)
    engine = make_engine("tensorrt_rtx")
    plan = engine.build(onnx_file, tmp_path, BuildOptions())
    plan.write_bytes(plan.read_bytes()[:-1000])
    with pytest.raises(EdgeproofError, match="was cut or changed") as caught:
        engine.open(plan)
    assert caught.value.exit_code == 1


def test_tensorrt__needs_the_gpu_that_it_builds_for(onnx_file: Path, tmp_path: Path) -> None:
    """TensorRT itself is not installable where this suite runs; its class is used without its package."""
    if why_no_cuda() is None:
        pytest.skip("this machine has a CUDA device")
    with pytest.raises(MissingPackageError, match="builds on the GPU that the plan is for: ") as caught:
        TensorRT().build(onnx_file, tmp_path / "out", BuildOptions())
    assert caught.value.exit_code == 5


def test_settings__what_only_tensorrt_can() -> None:
    options = BuildOptions(version_compatible=True, hardware_compatible="ampere_plus", cuda_graph=True)
    found = TensorRT().settings(options)
    assert (found.version_compatible, found.hardware_compatible) == (True, "ampere_plus")
    assert found.compute_capabilities == ()
    rtx = TensorRTRTX().settings(options)
    assert (rtx.version_compatible, rtx.hardware_compatible, rtx.cuda_graph) == (False, "none", True)
    assert rtx.compute_capabilities == ("8.6",)
