from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import torch
from safetensors.torch import load_file
from tests.compress.interrupted import StopError, stop_after
from tests.compress.small_students import quantised

from edgeproof_compress.int8_forms import held, loop_of
from edgeproof_compress.masks import is_2_4, load_masks
from edgeproof_compress.quantized_student import QuantizedStudent
from edgeproof_compress.stages import quantize_stage, sparsify_stage
from edgeproof_configs.errors import UsageError
from edgeproof_configs.schema import TrainConfig
from edgeproof_configs.stage import StageContext

MakeContext = Callable[..., StageContext]
QAT = ("compress.quantization={method: qat, epochs: 2, images: 16, calibration: max}",)


def weights(context: StageContext, form: str) -> dict[str, torch.Tensor]:
    folder = context.folder("quantize") / form
    return load_file(folder / "model.safetensors") | load_file(folder / "ranges.safetensors")


def test_quantize_stage__both_forms_and_their_figures(make_context: MakeContext) -> None:
    context = make_context(overrides=QAT, epochs=1)
    sparsify_stage(context)
    outcome = quantize_stage(context)
    assert set(outcome.metrics["forms"]) == {"int8", "sparse_int8"}
    for form, told in outcome.metrics["forms"].items():
        folder = context.folder("quantize") / form
        assert {file.name for file in outcome.outputs if file.parent == folder} >= {
            "model.safetensors",
            "config.json",
            "ranges.safetensors",
            "quantization.json",
        }
        assert set(told["val"]) == {"fp32", "calibrated", "tuned"}
        assert told["images"]["used"] == 16
        report = json.loads((folder / "quantization.json").read_text())
        assert all(row["quantised"] for row in report["layers"])
        image = torch.randn(2, 3, 32, 32)
        student = QuantizedStudent.read(folder)
        rounded = student(image).embedding
        student.use(None)
        assert not torch.equal(rounded, student(image).embedding)


def test_quantize_stage__sparse_weights_stay_sparse(make_context: MakeContext) -> None:
    context = make_context(overrides=QAT, epochs=1)
    sparsify_stage(context)
    quantize_stage(context)
    student = QuantizedStudent.read(context.folder("quantize") / "sparse_int8")
    masks = load_masks(context.folder("sparsify") / "masks.safetensors")
    assert masks
    for name, mask in masks.items():
        weight = student.get_parameter(held(student, name)).detach()
        assert is_2_4(weight)
        assert not weight[~mask].any()


@pytest.mark.parametrize("batches", [1, 4])
def test_quantize_stage__resumed_is_uninterrupted_to_the_bit(make_context: MakeContext, batches: int) -> None:
    whole, broken = (make_context(name, QAT, epochs=1, permute=False) for name in ("whole", "broken"))
    for context in (whole, broken):
        sparsify_stage(context)
    quantize_stage(whole)
    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, batches)
        with pytest.raises(StopError):
            quantize_stage(broken)
    quantize_stage(broken)
    for form in ("int8", "sparse_int8"):
        expected, found = weights(whole, form), weights(broken, form)
        assert expected.keys() == found.keys()
        assert [name for name, value in expected.items() if not torch.equal(found[name], value)] == [], form


def test_quantize_stage__a_pattern_that_matches_nothing(make_context: MakeContext) -> None:
    settings = ("compress.quantization={method: ptq, exclude: [backbone.layr1.*]}",)
    context = make_context(overrides=settings, epochs=0)
    sparsify_stage(context)
    with pytest.raises(UsageError, match=r"no layer matches 'backbone\.layr1\.\*'"):
        quantize_stage(context)


def test_loop_of__leaves_out_frozen_norms_that_were_folded() -> None:
    train = TrainConfig(epochs=9, freeze=("backbone.conv1", "backbone.bn1", "backbone.layer1"))
    loop = loop_of(train, quantised(), 2, 1e-4)
    assert loop.freeze == ("graph.backbone.conv1", "graph.backbone.layer1")
    assert (loop.epochs, loop.lr, loop.freeze_batch_norm, loop.compile) == (2, 1e-4, True, False)
