from __future__ import annotations

from pathlib import Path

from edgeproof_benchmarks.compression_data import compression_of
from edgeproof_configs.files import FileTable, write_json
from edgeproof_configs.loader import load_recipe
from edgeproof_configs.run import RunDir
from edgeproof_configs.stage import StageContext

RECIPE = """
name: small
data: {kind: solids}
teacher: {kind: contrastive, model: resnet10t, image_size: 32, epochs: 1, batch_size: 8, lr: 1e-3}
student: {model: resnet10t, image_size: 32}
losses: [{kind: cosine_embedding, weight: 1.0}]
train: {epochs: 2, batch_size: 8, lr: 1e-3}
head: {kind: zero_shot}
"""


def context_of(tmp_path: Path, compress: str) -> StageContext:
    """Return the context of a run that has exported and measured an fp32 and an INT8 form."""
    run = RunDir(tmp_path)
    file = tmp_path / "small.yaml"
    file.write_text(RECIPE + (f"compress: {compress}\n" if compress else ""))
    files = {
        "model.onnx": {"form": "fp32", "size_bytes": 400, "cosine_min": 1.0, "nodes": 9},
        "model.int8.onnx": {"form": "int8", "size_bytes": 110, "cosine_min": 0.999, "findings": []},
    }
    for stage, metrics in (("export", {"files": files}), ("bench", {"weights": {"int8": {"weights": 7}}})):
        run.stage(stage).mkdir()
        run.finish(stage, "inputs", [], 1.0, metrics)
    return StageContext(load_recipe(str(file)).recipe, run, "cpu", False, FileTable(tmp_path / "files.tsv"))


def test_compression_of__nothing_without_compress(tmp_path: Path):
    assert compression_of(context_of(tmp_path, "")) is None


def test_compression_of__joins_the_files_of_the_stages(tmp_path: Path):
    context = context_of(tmp_path, "{quantization: {method: ptq}}")
    folder = tmp_path / "quantize" / "int8"
    folder.mkdir(parents=True)
    write_json(folder / "quantization.json", {"method": "ptq", "values": [{"amax": 1.0}]})
    found = compression_of(context)
    assert found is not None
    assert found["sparsity"] is None
    assert found["quantization"] == {"int8": {"method": "ptq"}}
    dense, int8 = found["forms"]
    assert (dense["key"], dense["files"]) == ("fp32", {"model.onnx": {"size_bytes": 400, "cosine_min": 1.0}})
    assert dense["findings"] == {}
    assert int8["findings"] == {"model.int8.onnx": []}
    assert int8["weights"] == {"weights": 7}
    assert int8["fused"] is None
