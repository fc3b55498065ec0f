"""The host's side of a session, on a stand-in for the device: no machine of this suite has an NVIDIA GPU."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.deploy.runtime.gpu_stand_in import Gpu, expected, install, plan_bytes

from edgeproof_deploy.runtime.errors import BundleError, UnavailableError
from edgeproof_deploy.runtime.plan_session import PlanSession


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Gpu:
    return install(monkeypatch)


def images_of(count: int) -> np.ndarray:
    return np.random.default_rng(count).standard_normal((count, 3, 4, 4)).astype(np.float32)


def opened(plan: bytes | None = None, **settings: Any) -> PlanSession:
    return PlanSession(plan or plan_bytes(), "tensorrt", name="x.engine", **settings)


def test_run__computes_on_the_device_and_copies_back(gpu: Gpu) -> None:
    session = opened()
    assert session.providers == ("TensorRT",)
    assert (session.inputs, session.outputs) == ({"image": (-1, 3, 4, 4)}, {"embedding": (-1, 3)})
    assert set(session.load_seconds) == {"deserialise", "context", "first_run"}
    assert session.loading() == {"load_seconds": session.load_seconds}
    first = session.run({"image": images_of(1)})["embedding"]
    for count in (4, 2, 3):
        found = session.run({"image": images_of(count)})["embedding"]
        np.testing.assert_array_equal(found, expected(images_of(count)))
    # Outputs are the caller's own: later runs leave them as they are.
    np.testing.assert_array_equal(first, expected(images_of(1)))
    assert session.phases is not None
    assert list(session.phases) == ["copy_in", "compute", "copy_out"]


@pytest.mark.parametrize("graphs", [False, True])
def test_run__any_number_of_views_that_the_plan_was_built_for(gpu: Gpu, graphs: bool) -> None:
    plan = plan_bytes("views", (-1, -1, 3, 4, 4), (1, 4), (2, 5))
    session = opened(plan, cuda_graph=graphs)
    assert session.input_name == "views"
    for batch, count in ((1, 2), (1, 5), (3, 4), (1, 2), (9, 3)):
        views = np.random.default_rng(count).standard_normal((batch, count, 3, 4, 4)).astype(np.float32)
        np.testing.assert_array_equal(session.run({"views": views})["embedding"], expected(views))
    with pytest.raises(ValueError, match="built for 2 to 5 views of an object, got 6"):
        session.run({"views": np.zeros((1, 6, 3, 4, 4), np.float32)})


def test_plan_session__cuda_python_as_it_was_before_12_8(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, cuda="cuda.cudart")
    found = opened().run({"image": images_of(2)})["embedding"]
    np.testing.assert_array_equal(found, expected(images_of(2)))


def test_run__a_batch_above_the_largest_goes_in_parts_of_nearly_equal_size(gpu: Gpu) -> None:
    session = opened(plan_bytes(batch=(2, 4)))
    assert session.largest_batch == 4
    gpu.enqueued.clear()
    found = session.run({"image": images_of(9)})["embedding"]
    assert gpu.enqueued == [3, 3, 3]
    np.testing.assert_array_equal(found, expected(images_of(9)))


def test_run__a_batch_below_the_smallest(gpu: Gpu) -> None:
    session = opened(plan_bytes(batch=(3, 4)))
    with pytest.raises(ValueError, match="built for batches of 3 to 4, got 2"):
        session.run({"image": images_of(2)})
    with pytest.raises(ValueError, match="built for batches of 3 to 4, got 5"):
        session.run({"image": images_of(5)})


@pytest.mark.parametrize(
    ("inputs", "told"),
    [
        ({"pixels": images_of(1)}, "takes 'image', got pixels"),
        ({}, "takes 'image', got nothing"),
        ({"image": images_of(1).astype(np.float64)}, "as float32, got float64"),
        ({"image": images_of(1).transpose(0, 2, 3, 1)}, r"as \(batch, 3, 4, 4\), got \(1, 4, 4, 3\)"),
        ({"image": images_of(1)[0]}, r"got \(3, 4, 4\)"),
        ({"image": images_of(0)}, r"got \(0, 3, 4, 4\)"),
    ],
)
def test_run__inputs_that_the_plan_does_not_take(gpu: Gpu, inputs: dict[str, Any], told: str) -> None:
    session = opened()
    gpu.enqueued.clear()
    with pytest.raises(ValueError, match=told):
        session.run(inputs)
    assert gpu.enqueued == []


def test_run__as_a_graph_is_recorded_once_a_batch_size(gpu: Gpu) -> None:
    session = opened(cuda_graph=True)
    for count in (1, 3, 3, 1, 3):
        found = session.run({"image": images_of(count)})["embedding"]
        np.testing.assert_array_equal(found, expected(images_of(count)))
    # Once each before it is recorded; the run of an empty image while loading had batch 1.
    assert gpu.enqueued == [1, 3]
    assert gpu.recorded == [1, 1, 3, 3, 1, 3]


def test_close__frees_everything_and_twice_does_nothing(gpu: Gpu) -> None:
    session = opened(cuda_graph=True)
    session.run({"image": images_of(2)})
    session.close()
    session.close()
    assert gpu.live == {}
    with pytest.raises(ValueError, match="is closed"):
        session.run({"image": images_of(1)})


def test_plan_session__forgotten_without_being_closed_frees_its_memory(gpu: Gpu) -> None:
    session = opened()
    assert gpu.live
    del session
    gc.collect()
    assert gpu.live == {}


def test_plan_session__a_plan_that_the_package_does_not_load(gpu: Gpu) -> None:
    with pytest.raises(
        BundleError, match=r"x\.engine: cannot be loaded by TensorRT 10\.3\.0: the plan is damaged$"
    ):
        opened(plan_bytes()[:-5])


@pytest.mark.parametrize(
    ("plan", "told"),
    [
        (plan_bytes(name="input"), "has the inputs input; expected one of image, views"),
        (plan_bytes(shape=(-1, 4, 4, 3)), r"takes 'image' as \(-1, 4, 4, 3\), channels last; expected"),
    ],
)
def test_plan_session__other_names_or_another_layout(gpu: Gpu, plan: bytes, told: str) -> None:
    with pytest.raises(BundleError, match=told):
        opened(plan)


@pytest.mark.parametrize("function", ["cudaStreamCreate", "cudaMalloc", "cudaMemcpyAsync"])
def test_plan_session__the_device_fails(gpu: Gpu, function: str) -> None:
    gpu.failing[function] = 2
    with pytest.raises(UnavailableError, match=f"fails in {function}: error number 2") as caught:
        opened()
    assert caught.value.exit_code == 5


def test_plan_session__kernels_of_tensorrt_rtx_are_compiled_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    gpu = install(monkeypatch, "tensorrt_rtx", "1.7.1")
    kernels = tmp_path / "cache" / "kernels.bin"

    def load() -> str:
        session = PlanSession(plan_bytes(), "tensorrt_rtx", name="x.engine", kernel_cache=kernels)
        session.close()
        assert session.loading()["kernels"] == session.kernels
        return session.kernels

    assert [load(), load()] == ["compiled", "cached"]
    gpu.kernels_accepted = False
    assert load() == "compiled"
    kernels.unlink()
    kernels.parent.rmdir()
    kernels.parent.write_text("no folder")
    assert load().startswith("compiled, and not kept for the next time: ")
