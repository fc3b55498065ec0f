from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from tests.deploy.small_graphs import Builder, counts

from edgeproof_configs.errors import GateError
from edgeproof_deploy.autocast import LOGGERS
from edgeproof_deploy.export import export_onnx
from edgeproof_deploy.half import SENSITIVE, HalfResult, to_fp16
from edgeproof_deploy.runtime.session import OnnxSession
from edgeproof_train.student import Student

pytest.importorskip("modelopt.onnx")


def noise(side: int, count: int = 5) -> np.ndarray:
    return np.random.default_rng(3).standard_normal((count, 3, side, side)).astype(np.float32)


@pytest.fixture(scope="module")
def halved(onnx_file: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, HalfResult]:
    path = tmp_path_factory.mktemp("half") / "model.fp16.onnx"
    return path, to_fp16(onnx_file, path, noise(32, 20))


def test_to_fp16__half_the_bytes_and_the_same_answers(
    onnx_file: Path, halved: tuple[Path, HalfResult]
) -> None:
    path, result = halved
    weights = sum(tensor.ByteSize() for tensor in onnx.load(onnx_file).graph.initializer)
    assert result.size_bytes == path.stat().st_size
    assert onnx_file.stat().st_size - result.size_bytes > 0.45 * weights
    assert result.kept == {}
    assert result.converted == len(onnx.load(onnx_file).graph.node)
    assert result.nodes == len(onnx.load(path).graph.node)
    assert result.images == 20
    assert result.cosine_min > 0.9999
    expected, got = (OnnxSession(p).run({"image": noise(32, 3)})["embedding"] for p in (onnx_file, path))
    assert 0 < np.abs(expected - got).max() < 1e-2 * np.ptp(expected)


def test_to_fp16__everything_else_as_in_the_original(
    onnx_file: Path, halved: tuple[Path, HalfResult]
) -> None:
    before, after = onnx.load(onnx_file), onnx.load(halved[0])
    assert list(after.graph.input) == list(before.graph.input)
    assert list(after.graph.output) == list(before.graph.output)
    assert list(after.metadata_props) == list(before.metadata_props)
    assert after.ir_version == before.ir_version
    assert list(after.opset_import) == list(before.opset_import)
    assert [path.name for path in halved[0].parent.iterdir()] == ["model.fp16.onnx"]


def test_to_fp16__says_nothing(onnx_file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    loggers = [logging.getLogger(name) for name in LOGGERS]
    levels = [logger.level for logger in loggers]
    to_fp16(onnx_file, tmp_path / "half.onnx", noise(32))
    assert [logger.level for logger in loggers] == levels
    assert not [record for record in caplog.records if record.name.startswith("modelopt")]


def test_to_fp16__a_transformer_keeps_its_norms(student_of: Callable[..., Student], tmp_path: Path) -> None:
    export_onnx(student_of("test_vit", 160), tmp_path / "model.onnx")
    result = to_fp16(tmp_path / "model.onnx", tmp_path / "half.onnx", noise(160))
    assert set(result.kept) <= set(SENSITIVE)
    assert (
        len(result.kept["LayerNormalization"])
        == counts(onnx.load(tmp_path / "model.onnx"))["LayerNormalization"]
    )
    assert len(result.kept["Softmax"]) == 6
    assert result.cosine_min > 0.9999


def saved(b: Builder, out: str, folder: Path) -> Path:
    path = folder / "model.onnx"
    onnx.save(b.model(b.add("ReduceMean", out, b.store(np.array([2, 3])), keepdims=0), (3,)), path)
    return path


def test_to_fp16__large_values_stay_in_fp32(tmp_path: Path) -> None:
    b = Builder()
    large = b.add("Mul", "image", b.store(np.float32(3e5)), name="large")
    small = b.add("Mul", large, b.store(np.float32(1e-5)), name="small")
    result = to_fp16(saved(b, b.add("Relu", small), tmp_path), tmp_path / "half.onnx", noise(8))
    assert "large" in result.kept["Mul"]
    assert result.converted
    assert result.cosine_min > 0.999


def test_to_fp16__what_does_not_survive_is_not_written(tmp_path: Path) -> None:
    """Around 300 a step of fp16 is 0.25: the small differences that come back are lost."""
    b = Builder()
    shifted = b.add("Add", b.add("Mul", "image", b.store(np.float32(1e-3))), b.store(np.float32(300)))
    path = saved(b, b.add("Sub", shifted, b.store(np.float32(300))), tmp_path)
    with pytest.raises(GateError, match="the model in fp16 differs from that in fp32") as caught:
        to_fp16(path, tmp_path / "half.onnx", noise(8))
    assert caught.value.exit_code == 3
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]


@pytest.mark.parametrize("images", [noise(16), noise(32).astype(np.float64), noise(32)[:0]])
def test_to_fp16__other_inputs(onnx_file: Path, tmp_path: Path, images: np.ndarray) -> None:
    with pytest.raises(ValueError, match="expected float32 images"):
        to_fp16(onnx_file, tmp_path / "half.onnx", images)


def test_convert__without_the_package() -> None:
    code = (
        "import sys; sys.modules['modelopt'] = None\n"
        "from pathlib import Path\n"
        "from edgeproof_configs.errors import MissingPackageError\n"
        "from edgeproof_deploy.autocast import convert\n"
        "try: convert(Path('a'), Path('b'), ())\n"
        "except MissingPackageError as error: print(error.exit_code, error.fix)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("5 pip install 'edgeproof[compress]'")
