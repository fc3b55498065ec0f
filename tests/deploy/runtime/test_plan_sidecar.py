from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from edgeproof_deploy.runtime.errors import BundleError
from edgeproof_deploy.runtime.plan_sidecar import PlanSettings, Sidecar, as_json

SIDECAR = Sidecar(
    engine="tensorrt",
    version="10.3.0",
    compute_capabilities=("8.7",),
    device="Orin",
    system="linux aarch64",
    onnx="model.onnx",
    onnx_sha256="ab" * 32,
    plan="tensorrt-fp32-sm87.engine",
    plan_sha256="cd" * 32,
    plan_bytes=1000,
    settings=PlanSettings(batch=(2, 1, 8), sparse=True, hardware_compatible="ampere_plus"),
)


def changed(**values: Any) -> bytes:
    return json.dumps(json.loads(as_json(SIDECAR, {})) | values).encode()


def test_parse__what_was_written() -> None:
    several = replace(SIDECAR, compute_capabilities=("8.6", "8.9"))
    of_views = replace(SIDECAR, settings=PlanSettings(views=(12, 1)))
    for sidecar in (SIDECAR, several, of_views):
        assert Sidecar.parse(as_json(sidecar, {"status": "run here", "flags": ["TF32"]}), "x.json") == sidecar


def test_parse__a_plan_of_an_earlier_version_takes_images() -> None:
    plain = json.loads(as_json(SIDECAR, {}))
    del plain["settings"]["views"]
    assert Sidecar.parse(json.dumps(plain).encode(), "x.json") == SIDECAR
    plain["settings"]["views"] = [0]
    with pytest.raises(BundleError, match=r"settings\.views must be a list of whole numbers"):
        Sidecar.parse(json.dumps(plain).encode(), "x.json")


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"\xff\x00", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"[]", "is not the description of a plan with schema version 2"),
        (changed(schema_version=1), "schema version 2"),
        (changed(engine=3), "is damaged: engine"),
        (changed(plan_bytes=True), "is damaged: plan_bytes"),
        (changed(compute_capabilities="8.6"), "is damaged: plan_bytes or compute_capabilities"),
        (changed(plan="../../x.engine"), "is no file beside it"),
        (changed(plan="..\\x.engine"), "is no file beside it"),
        (changed(settings=None), "settings must have the keys"),
        (changed(settings={"batch": [1]}), "settings must have the keys"),
        (changed(settings=json.loads(changed())["settings"] | {"batch": [0]}), r"settings\.batch"),
        (changed(settings=json.loads(changed())["settings"] | {"sparse": 1}), r"settings\.sparse"),
        (changed(settings=json.loads(changed())["settings"] | {"precision": "fp8"}), r"settings\.precision"),
        (changed(settings=json.loads(changed())["settings"] | {"precision": []}), r"settings\.precision"),
        (
            changed(settings=json.loads(changed())["settings"] | {"hardware_compatible": {}}),
            "hardware_compatible",
        ),
    ],
)
def test_parse__damaged(data: bytes, told: str) -> None:
    with pytest.raises(BundleError, match=told) as caught:
        Sidecar.parse(data, "engines/x.json")
    assert caught.value.name == "engines/x.json"
