from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from edgeproof_configs.errors import EdgeproofError
from edgeproof_deploy.engine import BuildOptions, make_engine
from edgeproof_deploy.runtime.bundle import Bundle
from edgeproof_deploy.runtime.openvino_session import OpenVinoSession
from edgeproof_deploy.runtime.session import OnnxSession, open_engine

pytest.importorskip("openvino", reason="openvino is not installed")


def images_of(count: int) -> np.ndarray:
    return np.random.default_rng(count).standard_normal((count, 3, 32, 32)).astype(np.float32)


def test_open__agrees_with_onnxruntime_at_every_batch_size(onnx_file: Path, tmp_path: Path) -> None:
    engine = make_engine("openvino")
    assert engine.build(onnx_file, tmp_path, BuildOptions()) == onnx_file
    assert engine.files(onnx_file) == []
    assert engine.status == "run here"
    session, other = engine.open(onnx_file, threads=1), OnnxSession(onnx_file, threads=1)
    assert session.providers == ("OpenVINO CPU",)
    assert session.inputs == {"image": (-1, 3, 32, 32)}
    for count in (1, 5, 2):
        inputs = {"image": images_of(count)}
        found, expected = session.run(inputs)["embedding"], other.run(inputs)["embedding"]
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    session.close()


def test_run__threads_share_a_session(onnx_file: Path) -> None:
    session = OpenVinoSession(onnx_file.read_bytes(), threads=1)
    batches = [{"image": images_of(count)} for count in (1, 2, 3, 4) * 5]
    expected = [session.run(inputs)["embedding"] for inputs in batches]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda inputs: session.run(inputs)["embedding"], batches))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_run__what_openvino_itself_would_take_and_compute_something_from(onnx_file: Path) -> None:
    session = OpenVinoSession(onnx_file.read_bytes(), threads=1)
    with pytest.raises(ValueError, match=r"takes 'image' as \(batch, 3, 32, 32\), got \(1, 3, 5, 32\)"):
        session.run({"image": images_of(1)[:, :, :5]})
    with pytest.raises(ValueError, match="as float32, got float64"):
        session.run({"image": images_of(1).astype(np.float64)})
    session.close()
    session.close()
    with pytest.raises(ValueError, match="is closed"):
        session.run({"image": images_of(1)})


CLOSED_IN_ORDER = """
import gc, os, signal, sys
from pathlib import Path
from edgeproof_deploy.runtime.openvino_session import OpenVinoSession

signal.signal(signal.SIGUSR1, lambda *_: print("handled"))
first, second = (OpenVinoSession(Path(sys.argv[1]).read_bytes(), threads=1) for _ in range(2))
for session in (first, second):
    session.close()
    gc.collect()
os.kill(os.getpid(), signal.SIGUSR1)
"""


def test_close__a_signal_after_sessions_that_closed_in_order_does_not_kill(onnx_file: Path) -> None:
    words = [sys.executable, "-c", CLOSED_IN_ORDER, str(onnx_file)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr


def test_open__a_file_cut_in_half_is_named(onnx_file: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.onnx"
    cut.write_bytes(onnx_file.read_bytes()[:1000])
    with pytest.raises(EdgeproofError, match="cannot be loaded by OpenVINO: Error during import") as caught:
        make_engine("openvino").open(cut)
    assert caught.value.where == str(cut)


def test_open_engine__a_bundle(bundle: Path) -> None:
    session = open_engine(Bundle(bundle), "openvino", threads=1)
    assert session.model == "model.onnx"
    assert session.run({"image": images_of(2)})["embedding"].shape == (2, 16)
