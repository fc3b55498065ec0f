from __future__ import annotations

import io
import json
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image
from tests.configs.small_bundle import make_bundle, write_model

from edgeproof import bundle_bench
from edgeproof.bundle_bench import load_lines, phases_of
from edgeproof_configs.errors import EdgeproofError, MissingPackageError, UsageError
from edgeproof_deploy.bundle_models import Model, Opened, inputs_of, models_of, open_models, skipped_lines
from edgeproof_deploy.runtime.bundle import Bundle
from edgeproof_deploy.runtime.cuda_device import why_no_cuda
from edgeproof_deploy.runtime.self_test import SelfTest, TestImage
from edgeproof_deploy.runtime.session import OnnxSession, Session, open_engine
from edgeproof_deploy.runtime.tensorrt_package import why_not_here

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return make_bundle(tmp_path)


def test_models_of__each_engine_reads_its_own_placement(tmp_path: Path):
    models = {"model.onnx": 1, "model.int8.onnx": 1, "model.int8.trt.onnx": 1, "model.sparse_int8.onnx": 1}
    found = models_of(Bundle(make_bundle(tmp_path, models=models)))
    files = {model.name: model.file for model in found}
    assert files["onnxruntime int8"] == "model.int8.onnx"
    assert files["tensorrt int8"] == "model.int8.trt.onnx"
    assert files["sparse onnxruntime int8"] == "model.sparse_int8.onnx"
    assert "onnxruntime fp16" not in files


def test_open_models__what_runs_here_and_why_not_the_rest(bundle: Path):
    with ExitStack() as stack:
        opened = open_models(bundle, stack, threads=1)
        names = {model.name for model in opened.sessions}
        assert {"onnxruntime fp32", "onnxruntime int8"} <= names
        assert names.isdisjoint(model.name for model in opened.skipped)
        assert all(opened.skipped.values())


def test_open_models__a_changed_file(bundle: Path):
    with (bundle / "parity.json").open("ab") as handle:
        handle.write(b" ")
    with ExitStack() as stack, pytest.raises(EdgeproofError, match=r"parity\.json: was changed"):
        open_models(bundle, stack)


@pytest.mark.skipif(why_no_cuda() is None, reason="this machine has a CUDA device")
def test_open_models__nothing_that_runs_here(tmp_path: Path):
    bundle = make_bundle(tmp_path, models={"model.int8.trt.onnx": 1})
    with ExitStack() as stack, pytest.raises(MissingPackageError, match="no model of the bundle runs here: "):
        open_models(bundle, stack)


def test_open_models__engines_that_were_asked_for_and_no_other(bundle: Path):
    with ExitStack() as stack:
        opened = open_models(bundle, stack, threads=1, engines=("onnxruntime", "tensorrt"))
        assert {model.engine for model in opened.sessions} <= {"onnxruntime", "tensorrt"}
        assert {model.engine for model in opened.skipped} <= {"tensorrt"}
        reason = why_not_here("tensorrt")
        assert reason is None or set(opened.skipped.values()) == {reason}


def test_load_lines__what_is_in_no_latency():
    def session(**told: object) -> Session:
        return cast("Session", SimpleNamespace(**{"load_seconds": None, "kernels": ""} | told))

    plain = Model("model.onnx", "student", "fp32", "onnxruntime")
    plan = replace(plain, engine="tensorrt_rtx")
    loaded = session(load_seconds={"context": 1.25, "first_run": 2.0}, kernels="compiled")
    opened = Opened(cast("Bundle", None), {plain: session(), plan: loaded})
    assert load_lines(opened) == [
        "tensorrt_rtx fp32: loading took, in no figure above: context 1.25 s, first_run 2.00 s,"
        " kernels compiled"
    ]


def test_skipped_lines__an_engine_of_which_nothing_runs_is_named_once():
    models = [Model("m", "student", precision, engine) for engine in "ab" for precision in ("fp32", "int8")]
    found = skipped_lines({models[0]: "no driver", models[1]: "no driver", models[2]: "no plan"})
    assert found == ["not run here: a: no driver", "not run here: b fp32: no plan"]


@pytest.mark.parametrize(
    ("shape", "words"),
    [({"side": "height"}, "sides of no fixed size"), ({"batch": 4}, "takes batches of 4 only, not of 2")],
)
def test_inputs_of__what_cannot_be_made(shape: dict[str, Any], words: str, tmp_path: Path):
    session = OnnxSession(write_model(tmp_path / "m.onnx", **shape), threads=1)
    with pytest.raises(UsageError, match=words):
        inputs_of(session, 2)


def test_inputs_of__noise_of_the_session_s_shape(tmp_path: Path):
    found = inputs_of(OnnxSession(write_model(tmp_path / "m.onnx"), threads=1), 2)
    assert found["image"].shape == (2, 3, 16, 16)
    assert found["image"].dtype == np.float32
    assert 0.9 < found["image"].std() < 1.1


def test_bench__json_of_every_model(bundle: Path, edgeproof: Run):
    given = ["--seconds", 0.05, "--threads", 1, "--batch", 2, "--streams", 1, "--streams", 3]
    code, out, _ = edgeproof("bench", bundle, "--json", *given, "--engine", "onnxruntime")
    assert code == 0
    told = json.loads(out)
    slow, fast = (told["models"][f"onnxruntime {precision}"] for precision in ("fp32", "int8"))
    assert slow["latency_ms"]["batch2"]["p50"] > fast["latency_ms"]["batch2"]["p50"]
    assert set(fast["streams"]) == {"1", "3"}
    assert fast["memory_bytes"] > 0
    assert fast["phases_ms"] == {}
    assert fast["runs_on"] == ["CPUExecutionProvider"]
    assert told["conditions"]["official"] is False
    assert told["conditions"]["before"]["processor"]["cores"] >= 1
    assert told["conditions"]["energy"]
    assert {model["engine"] for model in told["models"].values()} == {"onnxruntime"}
    assert told["not_run_here"] == {}


def test_phases_of__the_photos_of_the_self_test_and_not_its_edge_images(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
):
    kept = tuple(TestImage(f"{name}.png", "", edge=name == "black") for name in ("00", "01", "black"))
    monkeypatch.setattr(bundle_bench, "read_self_test", lambda _: SelfTest(kept, {}, {}, {}))
    read = []

    class Carrying(Bundle):
        def read(self, name: str) -> bytes:
            if not name.endswith(".png"):
                return super().read(name)
            read.append(name)
            stream = io.BytesIO()
            Image.new("RGB", (20, 16)).save(stream, "PNG")
            return stream.getvalue()

    carrying = Carrying(bundle)
    found = phases_of(carrying, open_engine(carrying, "onnxruntime", 1), 0.02)
    assert read == ["00.png", "01.png"]
    assert list(found) == ["decode", "preprocess", "compute", "head", "total"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "nothing to measure"),
        (["quickstart", "--json"], "--json has no effect on a recipe"),
        (["quickstart", "--batch", "2"], "--batch has no effect on a recipe"),
        (["BUNDLE", "--strict"], "--strict has no effect on a bundle"),
        (["BUNDLE", "--compare", "BUNDLE", "BUNDLE"], "is a third"),
        (["--compare", "BUNDLE", "BUNDLE", "--traces", "t.npz"], "--traces has no effect on a comparison"),
        (["--compare", "BUNDLE", "BUNDLE", "--streams", "2"], "--streams has no effect on a comparison"),
        (["--compare", "BUNDLE", "BUNDLE", "--engine", "openvino"], "write A@ENGINE"),
        (["--compare", "BUNDLE", "BUNDLE", "--run", "x"], "--run has no effect on a comparison"),
        (["--compare", "BUNDLE", "BUNDLE", "--batch", "1", "--batch", "2"], "measures one batch size"),
        (["--compare", "BUNDLE@opnvino", "BUNDLE"], "Did you mean 'openvino'?"),
        (["--compare", "BUNDLE", "none.onnx"], "no such model"),
        (["--compare", "BUNDLE", "none"], "no such bundle"),
    ],
)
def test_bench__what_cannot_be_measured(arguments: list[str], words: str, bundle: Path, edgeproof: Run):
    code, out, err = edgeproof("bench", *(word.replace("BUNDLE", str(bundle)) for word in arguments))
    assert (code, out) == (2, "")
    assert words in err
    assert len(err.splitlines()) <= 3
