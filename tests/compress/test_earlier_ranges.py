from __future__ import annotations

import pytest
import torch
from tests.compress.earlier_checkpoints import images, quantized_network, timm_network
from tests.compress.small_students import make_student
from torch import nn

from edgeproof_compress.earlier import Earlier, sort_entries
from edgeproof_compress.earlier_ranges import fold_factors, place_ranges
from edgeproof_compress.import_student import layer_names
from edgeproof_compress.quantized_student import QuantizationSpec, QuantizedStudent
from edgeproof_train.students.timm import TimmStudent

MODEL = "test_resnet.r160_in1k"


@pytest.fixture(scope="module")
def student() -> TimmStudent:
    student = make_student(MODEL)
    with torch.no_grad():
        for module in student.modules():
            if isinstance(module, nn.BatchNorm2d):
                # Both signs: a range is multiplied with the absolute value.
                module.weight[::2] *= -1
    return student


@pytest.fixture(scope="module")
def network(student: TimmStudent) -> nn.Module:
    return quantized_network(student)


@pytest.fixture
def earlier(network: nn.Module) -> Earlier:
    return sort_entries(network.state_dict(), [name for name, _ in network.named_modules()])


def test_quantized_network__of_the_tests_has_the_names_and_values_of_timm(
    student: TimmStudent, network: nn.Module, earlier: Earlier
) -> None:
    assert earlier.weights.keys() == student.tensors().keys()
    rounded, plain = network(images()), timm_network(student)(images())
    assert 0 < float((rounded - plain).detach().abs().max()) < 0.2 * float(plain.detach().abs().max())


def test_place_ranges__of_weights_are_those_of_the_folded_weights(
    student: TimmStudent, earlier: Earlier
) -> None:
    placed = place_ranges(student, earlier, layer_names(student))
    own = QuantizedStudent(student, QuantizationSpec(tuple(placed.weights)))
    assert len(placed.weights) == len(earlier.weight_ranges) == len(own.spec.layers)
    for layer, quantizer in own.weight_quantizers().items():
        torch.testing.assert_close(placed.weights[layer], quantizer.ranges, rtol=1e-5, atol=1e-8)


def test_place_ranges__a_folded_weight_is_rounded_to_the_levels_it_had_before(
    student: TimmStudent, earlier: Earlier
) -> None:
    for layer, amax in earlier.weight_ranges.items():
        # What fine-tuning may leave: ranges that are not the largest weight.
        earlier.weight_ranges[layer] = 0.7 * amax
    placed = place_ranges(student, earlier, layer_names(student))
    folded = QuantizedStudent(student, QuantizationSpec(tuple(placed.weights))).tensors()
    names = layer_names(student)
    for layer, ranges in placed.weights.items():
        shape = (-1, *[1] * (folded[f"{layer}.weight"].ndim - 1))
        after = folded[f"{layer}.weight"] / ranges.reshape(shape) * 127
        before = (
            earlier.weights[f"{names[layer]}.weight"]
            / earlier.weight_ranges[names[layer]].reshape(shape)
            * 127
        )
        torch.testing.assert_close(after.abs(), before.abs(), rtol=1e-4, atol=1e-4)


def test_fold_factors__are_gamma_by_deviation(student: TimmStudent) -> None:
    norm = student.backbone.get_submodule("layer1.0.bn2")
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_var is not None
    expected = norm.weight.detach().abs() / torch.sqrt(norm.running_var + norm.eps)
    torch.testing.assert_close(fold_factors(student, [])["backbone.layer1.0.conv2"], expected)
    assert "backbone.layer1.0.conv2" not in fold_factors(student, ["backbone.layer1.0.bn2"])


def test_place_ranges__of_inputs_are_what_the_values_reach_on_the_same_images(
    student: TimmStudent, earlier: Earlier
) -> None:
    placed = place_ranges(student, earlier, layer_names(student))
    own = QuantizedStudent(student, QuantizationSpec(tuple(placed.weights)))
    for quantizer in own.quantizers().values():
        quantizer.collect()
    with torch.no_grad():
        own.eval()(images(4))
    for value, quantizer in own.quantizers().items():
        if value in placed.activations:
            assert placed.activations[value] == pytest.approx(quantizer.finish("max", None), rel=1e-4)
    assert placed.activations.keys() == set(own.reads().values())
    assert placed.missing.keys() == own.quantizers().keys() - placed.activations.keys()
    assert placed.missing
    assert {layer for layers in placed.read_by.values() for layer in layers} == set(own.spec.layers)


@pytest.mark.parametrize("wrong", [0.0, -1.0, float("nan"), float("inf")])
def test_place_ranges__keeps_no_range_that_is_none(
    student: TimmStudent, earlier: Earlier, wrong: float
) -> None:
    earlier.input_ranges["conv1.0"] = torch.tensor([wrong])
    earlier.weight_ranges["layer1.0.conv2"] = torch.tensor([wrong, *[1.0] * 31])
    placed = place_ranges(student, earlier, layer_names(student))
    assert "backbone.layer1.0.conv2" not in placed.weights
    assert "image" in placed.missing
    assert any("unusable ranges of the weight of backbone.layer1.0.conv2" in line for line in placed.told)
    assert any("unusable ranges of the input of backbone.conv1.0" in line for line in placed.told)


def test_place_ranges__spreads_one_range_of_a_weight_over_its_channels(
    student: TimmStudent, earlier: Earlier
) -> None:
    earlier.weight_ranges["fc"] = torch.tensor([0.5])
    earlier.weight_ranges["conv1.0"] = torch.ones(3)
    placed = place_ranges(student, earlier, layer_names(student))
    assert placed.weights["head"].tolist() == [0.5] * 16
    assert "backbone.conv1.0" not in placed.weights


def test_place_ranges__tells_of_ranges_that_have_no_place(student: TimmStudent, earlier: Earlier) -> None:
    earlier.input_ranges["teacher.conv1"] = torch.tensor([1.0])
    del earlier.weight_ranges["fc"]
    told = place_ranges(student, earlier, layer_names(student)).told
    assert any("no layer of the student, not kept" in line and "teacher.conv1" in line for line in told)
    assert "INT8: no range of the weight of head" in told


def test_place_ranges__without_any_layer_of_the_student_has_nothing(student: TimmStudent) -> None:
    earlier = Earlier(other_ranges=["residual_quantizer"])
    placed = place_ranges(student, earlier, layer_names(student))
    assert placed.to_dict() == {"activations": {}, "weights": {}, "read_by": {}, "missing": {}}
    assert len(placed.told) == 1
