from __future__ import annotations

from typing import Any

import pytest

from edgeproof.catalogue import engine_state, list_things
from edgeproof_configs.registry import component_class


def state(kind: str) -> tuple[bool, str]:
    engine: Any = component_class("engine", kind)
    return engine_state(engine)


def test_list_things__an_engine_has_a_line_of_its_state() -> None:
    rows = list_things("engines")
    names = [name for name, _ in rows if name]
    assert "tensorrt" in names
    assert len(rows) == 2 * len(names)
    assert all(text.startswith(("installed, ", "missing: ")) for name, text in rows if not name)


def test_engine_state__missing_and_how_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("edgeproof_deploy.runtime.tensorrt_package", "edgeproof_deploy.runtime.openvino_session"):
        monkeypatch.setattr(f"{module}.find_spec", lambda name: None)
    there, told = state("tensorrt_rtx")
    assert not there
    assert told == "missing: package tensorrt_rtx is not installed: pip install tensorrt-rtx"
    assert state("openvino") == (False, "missing: package openvino is not installed: pip install openvino")


def test_engine_state__what_can_be_built_but_not_run_here(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed")
    monkeypatch.setattr("edgeproof_deploy.runtime.cuda_device.DRIVER", "libno-such-driver.so.1")
    built = "installed, can be built, not run here: there is no NVIDIA driver on this machine"
    assert state("tensorrt_rtx") == (True, built)


def test_engine_state__what_neither_builds_nor_runs_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr("edgeproof_deploy.runtime.cuda_device.DRIVER", "libno-such-driver.so.1")
    told = "installed, does not run here: there is no NVIDIA driver on this machine"
    assert state("onnxruntime_cuda") == (True, told)
