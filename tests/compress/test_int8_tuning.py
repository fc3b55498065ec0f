"""Fine-tuning of both INT8 forms of a run whose sparse student was pruned and not tuned."""

from __future__ import annotations

from collections.abc import Callable

from edgeproof_compress.int8_forms import TUNING
from edgeproof_compress.quantized_student import QuantizedStudent
from edgeproof_compress.stages import quantize_stage, sparsify_stage
from edgeproof_configs.files import read_json
from edgeproof_configs.stage import StageContext

MakeContext = Callable[..., StageContext]
SETTINGS = ("compress.quantization={calibration: max, images: 8, epochs: 1}",)


def test_quantize_stage__tunes_each_form_and_repeats_to_the_same_files(make_context: MakeContext) -> None:
    context = make_context(overrides=SETTINGS, epochs=0, permute=False)
    sparsify_stage(context)
    quantize_stage(context)
    stages = {row["stage"] for row in context.run.metrics() if row["event"] == "epoch"}
    assert {"quantize int8", "quantize sparse_int8"} <= stages
    folders = [context.run.stage("quantize") / form for form in ("int8", "sparse_int8")]
    for folder in folders:
        assert QuantizedStudent.read(folder).spec == QuantizedStudent.read(folder / TUNING).spec
        assert "tuned" in read_json(folder / "quantization.json")["val"]
    names = ("model.safetensors", "ranges.safetensors", "quantization.json")
    before = [(folder / name).read_bytes() for folder in folders for name in names]
    quantize_stage(context)
    assert [(folder / name).read_bytes() for folder in folders for name in names] == before
