from __future__ import annotations

import copy

import pytest
import torch
from tests.compress.small_students import images, make_student, quantised
from torch import nn

from edgeproof_compress.integers import IntegerLayer, IntegerStudent, Rounding
from edgeproof_compress.placement import TARGETS, Target

SAME_PADDED = "tf_mobilenetv3_small_minimal_100"


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("model", ["cifar_resnet8", "mobilenetv2_035", SAME_PADDED, "test_vit"])
def test_integer_student__computes_what_the_rounding_student_does(model: str, target: Target) -> None:
    student = quantised(model, target)
    before = copy.deepcopy(student.state_dict())
    integers = IntegerStudent(student, target)
    with torch.no_grad():
        expected, found = student(images(8)).embedding, integers(images(8)).embedding
        plain = make_student(model)(images(8)).embedding
    # One image may fall on the other side of a half somewhere, and a random network makes much of it.
    cosines = nn.functional.cosine_similarity(found, expected)
    assert cosines.mean() > 0.9995
    assert cosines.median() > 0.999999
    assert not torch.equal(found, plain)
    after = student.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    with torch.no_grad():
        assert torch.equal(student(images(8)).embedding, expected), "the student stays as it is"


@pytest.mark.parametrize("target", TARGETS)
def test_integer_student__holds_int8_weights_and_float_biases(target: Target) -> None:
    student = quantised(target=target)
    integers = IntegerStudent(student, target)
    layers = {name: one for name, one in integers.graph.named_modules() if isinstance(one, IntegerLayer)}
    assert set(layers) == set(student.spec.layers)
    for name, layer in layers.items():
        values = layer.get_buffer("integers")
        assert values.dtype == torch.int8
        assert values.flatten(1).abs().amax(1).eq(127).all(), "each channel uses its whole range"
        assert layer.bias is None or layer.bias.dtype == torch.float32
        scale = layer.get_buffer("scale").reshape(-1, *[1] * (values.ndim - 1))
        rounded = student.graph.get_submodule(name).get_parameter("parametrizations.weight.original")
        torch.testing.assert_close(values * scale, student.weight_quantizers()[name].inner(rounded))
    kept = [name for name, value in integers.graph.named_parameters() if value.ndim > 1]
    assert kept == [], "no weight is left in floating point"
    assert not any(value.requires_grad for value in integers.parameters())


def test_integer_student__rounds_where_its_engine_does() -> None:
    student = quantised()
    for target in TARGETS:
        integers = IntegerStudent(student, target)
        found = {name for name, one in integers.graph.named_children() if isinstance(one, Rounding)}
        expected = {f"quantize_{name}" for name, one in student.quantizers().items() if target in one.targets}
        assert found == expected
        kinds = {one.settings[-1] for one in integers.graph.children() if isinstance(one, Rounding)}
        zeros = {one.settings[1] for one in integers.graph.children() if isinstance(one, Rounding)}
        assert kinds == {torch.uint8 if target == "onnxruntime" else torch.int8}
        assert zeros == ({0, 128} if target == "onnxruntime" else {0})


def test_integer_student__after_weights_have_left_their_ranges_cuts_them_off() -> None:
    student = quantised()
    with torch.no_grad():
        for name in student.spec.layers:
            student.graph.get_submodule(name).get_parameter("parametrizations.weight.original").mul_(1.5)
        expected = student(images()).embedding
        found = IntegerStudent(student, "onnxruntime")(images()).embedding
    assert nn.functional.cosine_similarity(found, expected).min() > 0.9995


def test_integer_student__has_nothing_to_train() -> None:
    integers = IntegerStudent(quantised(), "tensorrt")
    assert integers.embedding_dim == 16
    assert not any(parameter.requires_grad for parameter in integers.parameters())
    assert not integers(images()).embedding.requires_grad
