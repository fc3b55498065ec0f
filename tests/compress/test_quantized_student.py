from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.compress.small_students import images, layers_of, make_student, quantised
from torch import Tensor

from edgeproof_compress.quantized_student import QuantizationSpec, QuantizedStudent
from edgeproof_configs.errors import EdgeproofError
from edgeproof_train.ema import Ema
from edgeproof_train.student import Student
from edgeproof_train.taps import Taps

MODELS = ["cifar_resnet8", "mobilenetv2_035", "test_vit"]
Change = Callable[[dict[str, Tensor]], object]


def embedding(student: torch.nn.Module) -> Tensor:
    with torch.no_grad():
        return student(images()).embedding


def cosine(one: Tensor, other: Tensor) -> float:
    return float(torch.nn.functional.cosine_similarity(one, other).min())


@pytest.mark.parametrize("model", MODELS)
def test_use__none_is_the_student_in_floating_point(model: str) -> None:
    student, plain = quantised(model), embedding(make_student(model))
    rounded = embedding(student)
    student.use(None)
    torch.testing.assert_close(embedding(student), plain, rtol=1e-5, atol=1e-5)
    assert 0.97 < cosine(rounded, plain) < 1 - 1e-7
    student.use("tensorrt")
    assert 0.97 < cosine(embedding(student), plain) < 1 - 1e-7
    assert not torch.equal(embedding(student), rounded), "the engines round other values"


@pytest.mark.parametrize("model", MODELS)
def test_read__gives_what_was_saved_to_the_bit(model: str, tmp_path: Path) -> None:
    student = quantised(model)
    student.classes = tuple(str(number) for number in range(student.embedding_dim))
    files = student.save(tmp_path)
    assert {file.name for file in files} == {"model.safetensors", "config.json", "ranges.safetensors"}
    again = QuantizedStudent.read(tmp_path)
    assert torch.equal(embedding(again), embedding(student))
    assert again.spec == student.spec
    assert again.classes == student.classes
    assert again.preprocess == student.preprocess
    assert not again.training
    assert {name: float(one.sum()) for name, one in again.ranges().items()} == {
        name: float(one.sum()) for name, one in student.ranges().items()
    }


def test_save__names_weights_as_in_the_student(tmp_path: Path) -> None:
    student = quantised()
    student.save(tmp_path)
    plain = set(make_student().state_dict())
    stored = set(load_file(tmp_path / "model.safetensors"))
    assert (
        stored - plain
        == {name.replace("weight", "bias") for name in plain if ".conv" in name}
        | {"backbone.conv1.bias"} - plain
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda r: r.pop("weight.head"), "names"),
        (lambda r: r.update({"weight.tail": torch.ones(3)}), "names"),
        (lambda r: r.update({"weight.head": torch.ones(1)}), "shapes"),
        (lambda r: r.update({"activation.image": torch.ones(2)}), "shapes"),
        (lambda r: r.update({"activation.image": torch.tensor(torch.nan)}), "activation.image"),
        (lambda r: r.update({"activation.image": torch.tensor(0.0)}), "activation.image"),
        (lambda r: r.update({"activation.image": torch.tensor(-1.0)}), "activation.image"),
        (lambda r: r.update({"weight.head": torch.full((16,), torch.inf)}), "weight.head"),
    ],
)
def test_read__refuses_ranges_of_something_else(change: Change, words: str, tmp_path: Path) -> None:
    quantised().save(tmp_path)
    ranges = load_file(tmp_path / "ranges.safetensors")
    change(ranges)
    save_file(ranges, tmp_path / "ranges.safetensors")
    with pytest.raises(EdgeproofError, match="ranges do not fit") as caught:
        QuantizedStudent.read(tmp_path)
    assert words in str(caught.value)


def test_read__refuses_what_is_missing_or_another_kind(tmp_path: Path) -> None:
    with pytest.raises(EdgeproofError, match="no student here"):
        QuantizedStudent.read(tmp_path)
    make_student().save(tmp_path / "plain")
    with pytest.raises(EdgeproofError, match="no quantised student"):
        QuantizedStudent.read(tmp_path / "plain")
    quantised().save(tmp_path)
    (tmp_path / "ranges.safetensors").write_bytes(b"cut")
    with pytest.raises(EdgeproofError, match="cut or damaged"):
        QuantizedStudent.read(tmp_path)
    (tmp_path / "ranges.safetensors").unlink()
    with pytest.raises(EdgeproofError, match="no such file"):
        QuantizedStudent.read(tmp_path)
    make_student(dim=8).save(tmp_path / "narrow")
    (tmp_path / "narrow" / "model.safetensors").replace(tmp_path / "model.safetensors")
    with pytest.raises(EdgeproofError, match="weights are of another model"):
        QuantizedStudent.read(tmp_path)


def test_state_dict__holds_the_ranges_too() -> None:
    student, other = quantised(), quantised()
    with torch.no_grad():
        for name, value in other.named_buffers():
            if name.endswith("_amax"):
                value.mul_(0.3)
    assert not torch.equal(embedding(other), embedding(student))
    other.load_state_dict(student.state_dict())
    assert torch.equal(embedding(other), embedding(student))


@pytest.mark.parametrize("model", MODELS)
def test_deepcopy__is_a_student_of_its_own(model: str) -> None:
    student = quantised(model)
    student.expose(["blocks.0" if model != "cifar_resnet8" else "layer1"])
    before = embedding(student)
    copied = copy.deepcopy(student)
    assert set(copied.state_dict()) == set(student.state_dict())
    assert torch.equal(embedding(copied), before)
    copied.use(None)
    with torch.no_grad():
        for parameter in copied.parameters():
            parameter.zero_()
    assert torch.equal(embedding(student), before)
    copied.load_state_dict(student.state_dict())
    copied.use("onnxruntime")
    assert torch.equal(embedding(copied), before)


@pytest.mark.parametrize("model", MODELS)
def test_backward__reaches_every_weight(model: str) -> None:
    student = quantised(model).train()
    student(images()).embedding.square().sum().backward()
    parameters = {**dict(student.backbone_parameters()), **dict(student.head_parameters())}
    assert len(parameters) == len(list(student.parameters()))
    assert set(dict(student.head_parameters())) == {"head.weight", "head.bias"}
    without = {name for name, one in parameters.items() if one.grad is None or not one.grad.any()}
    # The bias of a key moves all scores of a query alike.
    assert not without


def test_ema__averages_weights_and_keeps_ranges() -> None:
    student = quantised()
    ema = Ema(student, decay=0.5)
    first = {name: value.clone() for name, value in student.state_dict().items()}
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(1)
    ema.update(1000)
    with ema.swapped():
        for name, value in student.state_dict().items():
            torch.testing.assert_close(value, first[name] + (0 if name.endswith("_amax") else 0.5))


def test_without__returns_layers_and_keeps_the_other_ranges() -> None:
    student = quantised()
    assert torch.equal(embedding(student.without([])), embedding(student))
    given_back = ["backbone.conv1", "head"]
    fewer = student.without(given_back)
    assert fewer.spec.layers == tuple(name for name in student.spec.layers if name not in given_back)
    ranges = student.ranges()
    assert all(torch.equal(value, ranges[name]) for name, value in fewer.ranges().items())
    assert set(ranges) - set(fewer.ranges()) >= {"activation.image", "weight.head", "weight.backbone.conv1"}
    plain = embedding(make_student())
    assert not torch.equal(embedding(fewer), embedding(student))
    none = student.without(student.spec.layers)
    assert not none.quantizers()
    torch.testing.assert_close(embedding(none), plain, rtol=1e-5, atol=1e-5)


def test_without__one_branch_of_a_block_has_all_the_ranges_it_needs() -> None:
    student = quantised("resnet10t")
    for layer in ("backbone.layer2.0.conv2", "backbone.layer2.0.downsample.1"):
        assert layer in student.spec.layers
        assert torch.isfinite(embedding(student.without([layer]))).all()


def test_use_only__rounds_one_weight_and_what_it_reads() -> None:
    student = quantised()
    assert set(student.reads()) == set(student.spec.layers)
    assert student.reads()["backbone.conv1"] == "image"
    student.use_only("backbone.layer2.0.conv1")
    assert [name for name, one in student.quantizers().items() if one.active] == [
        student.reads()["backbone.layer2.0.conv1"]
    ]
    assert [name for name, one in student.weight_quantizers().items() if one.active] == [
        "backbone.layer2.0.conv1"
    ]


@pytest.mark.parametrize(
    ("model", "nodes"),
    [
        ("cifar_resnet8", ["layer1", "layer2.0", "layer2", "layer3"]),
        ("mobilenetv2_035", ["blocks.1", "blocks.2.1", "conv_stem"]),
        ("test_vit", ["blocks.0", "blocks.1", "norm"]),
    ],
)
def test_expose__gives_blocks_as_the_student_has_them(model: str, nodes: list[str]) -> None:
    base, student = make_student(model), quantised(model)
    rounded, names = embedding(student), set(student.state_dict())
    student.expose(nodes)
    assert torch.equal(embedding(student), rounded)
    assert set(student.state_dict()) == names
    assert set(student.reads()) == set(student.spec.layers)
    student.use(None)
    expected, found = Taps(base.module(), nodes), Taps(student.module(), nodes)
    embedding(base)
    embedding(student)
    maps = found.taken()
    for name, value in expected.taken().items():
        if name != "conv_stem":
            torch.testing.assert_close(maps[name], value, rtol=1e-4, atol=1e-5)
    student.use("onnxruntime")
    embedding(student)
    assert all(not torch.equal(value, maps[name]) for name, value in found.taken().items())
    found.remove()


def test_expose__refuses_what_is_not_run() -> None:
    student = quantised()
    for name in ("layer9", "layer1:input", "bn1"):
        with pytest.raises(EdgeproofError, match=name):
            student.expose([name])


def test_pooled__is_what_the_head_sees() -> None:
    student, base = quantised(), make_student()
    with torch.no_grad():
        rounded = student.pooled(images())
        student.use(None)
        torch.testing.assert_close(student.pooled(images()), base.pooled(images()), rtol=1e-5, atol=1e-5)
    assert not torch.equal(rounded, base.pooled(images()))


def test_layers_beside__names_readers_and_makers() -> None:
    student = quantised("resnet10t")
    beside = {
        name.removeprefix("student_backbone_"): set(student.layers_beside(name))
        for name in student.quantizers()
    }
    assert {name.rpartition(".")[2] for name in beside["image"]} == {"0"}
    assert beside["layer1_0_conv2"] == {"backbone.layer1.0.conv2"}
    # Of the sum: the convolution before it, and those that read it; not what made the shortcut.
    made = {name.removeprefix("backbone.") for name in beside["layer1_0_act2"]}
    assert "layer1.0.conv2" in made
    assert "layer2.0.conv1" in made
    assert not any(name.startswith("conv1") for name in made)
    stem = next(name for name in beside if name.startswith("act1"))
    made = {name.removeprefix("backbone.") for name in beside[stem]}
    assert "layer1.0.conv1" in made, "across the max pool"
    assert any(name.startswith("conv1") for name in made)


def test_quantized_student__names_batch_norms_that_stay() -> None:
    base = make_student("test_efficientnet")
    assert QuantizedStudent(base, QuantizationSpec(layers_of(base))).unfolded == []
    base = make_student("densenet121", side=32)
    student = QuantizedStudent(base, QuantizationSpec(("head",)))
    assert "backbone.features.denseblock1.denselayer1.norm1" in student.unfolded
    torch.testing.assert_close(embedding(student.eval()), embedding(base), rtol=1e-4, atol=1e-5)


def test_load__of_a_quantised_student_names_the_one_it_was_made_of(tmp_path: Path) -> None:
    quantised().save(tmp_path)
    with pytest.raises(EdgeproofError, match="computes in INT8") as refused:
        Student.load(tmp_path)
    assert "RUN/train" in (refused.value.fix or "")
