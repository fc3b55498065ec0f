from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from tests.deploy.small_graphs import SIDE, Builder, exported

from edgeproof_deploy.finding import Finding
from edgeproof_deploy.qdq_lint import RULES, lint, worst
from edgeproof_deploy.qdq_passes import Target, fit_to_engine

ORT: Target = "onnxruntime"
TRT: Target = "tensorrt"


class Network:
    """Stem, residual block, depthwise convolution and head, placed as `target` wants it but for one flaw."""

    def __init__(self, target: Target, **flaws: Any):
        self.b, self.ort, self.flaws = Builder(), target == ORT, flaws

    def q(self, x: str, scale: float = 0.02, name: str = "") -> str:
        """Quantise what is not negative."""
        kind = self.flaws.get("dtype", np.uint8 if self.ort else np.int8)
        return self.b.qdq(x, scale, self.flaws.get("zero", 0), kind, name)

    def signed(self, x: str) -> str:
        return self.b.signed(x) if self.ort else self.q(x)

    def bias(self) -> str:
        b = self.b
        integers, zeros = b.store(np.zeros(8, np.int32)), b.store(np.zeros(8, np.int32))
        return b.add("DequantizeLinear", integers, b.store(np.full(8, 1e-4, np.float32)), zeros, axis=0)

    def act(self, x: str) -> str:
        kind = self.flaws.get("activation", "Relu")
        if kind == "HardSwish" and self.ort:
            x = self.signed(x)
        return self.b.add(kind, x)

    def model(self) -> onnx.ModelProto:
        b, flaws = self.b, self.flaws
        stem = b.conv(self.signed("image"), (8, 3), name="stem")
        x = self.q(self.act(stem), flaws.get("scale", 0.02), name="after_stem")
        other = self.q(b.nodes[-2].input[0], 0.03) if flaws.get("two_scales") else x
        if flaws.get("pad"):
            other = b.add("Pad", other, b.store(np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64)))
        settings: dict[str, Any] = {"pads": [0, 0, 0, 0]} if flaws.get("pad") else {}
        if flaws.get("bias"):
            settings["bias"] = self.bias()
        if flaws.get("float_weight"):
            settings["weight"] = b.float_weight(8, 8, 3, 3)
        branch = b.conv(other, (8, 8), name="branch", **settings)
        if flaws.get("batch_norm"):
            branch = b.add("BatchNormalization", branch, *(b.store(np.ones(8, np.float32)) for _ in range(4)))
        if flaws.get("quantise_branch", self.ort):
            branch = self.signed(branch)
        shortcut = stem if flaws.get("float_shortcut") else x
        summed = b.add("Add", branch, shortcut, name="sum")
        y = self.q(self.act(summed))
        weight = b.weight(8, 1, 3, 3, per_channel=not flaws.get("per_tensor"))
        if flaws.get("weight_uint8"):
            b.stored[-1].CopyFrom(onnx.numpy_helper.from_array(np.zeros(8, np.uint8), b.stored[-1].name))
            values = onnx.numpy_helper.to_array(b.stored[-3]).astype(np.uint8)
            b.stored[-3].CopyFrom(onnx.numpy_helper.from_array(values, b.stored[-3].name))
        z = self.act(b.conv(y, (8, 8), name="depthwise", group=8, weight=weight))
        z = z if flaws.get("float_output") else self.q(z)
        return self.head(z)

    def head(self, z: str) -> onnx.ModelProto:
        b = self.b
        pooled = b.add("ReduceMean", z, b.store(np.array([2, 3], np.int64)), keepdims=0)
        pooled = pooled if self.flaws.get("float_head") else self.q(pooled)
        floating = self.flaws.get("float_head")
        if self.flaws.get("matmul"):
            weight = b.float_weight(8, 8) if floating else b.weight(8, 8, axis=1)
            product = b.add("MatMul", pooled, weight, name="head")
            out = b.add("Add", product, b.store(np.zeros(8, np.float32)))
        else:
            integers = self.ort and not self.flaws.get("float_bias") and not floating
            bias = self.bias() if integers else b.store(np.zeros(8, np.float32))
            weight = b.float_weight(8, 8) if floating else b.weight(8, 8)
            out = b.add("Gemm", pooled, weight, bias, name="head", transB=1)
        return b.model(self.q(out) if self.flaws.get("rounded_output") else out, (8,))


def findings(target: Target, **flaws: Any) -> list[Finding]:
    return lint(Network(target, **flaws).model(), target)


def grave(found: list[Finding]) -> list[tuple[str, str, str]]:
    return [(one.node, one.rule, one.level) for one in found if one.level != "info"]


@pytest.mark.parametrize("target", [ORT, TRT])
def test_lint__nothing_grave_in_a_well_placed_network(target: Target) -> None:
    found = findings(target)
    assert grave(found) == []
    assert [(one.node, one.rule) for one in found] == [("stem", "ends"), ("head", "ends")]
    assert worst(found) == "info"


@pytest.mark.parametrize(
    ("target", "flaws", "expected"),
    [
        (ORT, {"batch_norm": True}, {("batch_norm", "warning"), ("float_output", "warning")}),
        (TRT, {"batch_norm": True}, {("batch_norm", "warning")}),
        (ORT, {"pad": True}, {("padding", "warning"), ("float_layer", "warning")}),
        (TRT, {"pad": True}, {("padding", "warning"), ("float_layer", "warning")}),
        (ORT, {"float_weight": True}, {("float_layer", "warning")}),
        (TRT, {"float_weight": True}, {("float_layer", "warning")}),
        (ORT, {"float_shortcut": True}, {("residual_add", "warning"), ("float_output", "warning")}),
        (TRT, {"float_shortcut": True}, {("residual_add", "warning")}),
        (ORT, {"quantise_branch": False}, {("residual_add", "warning")}),
        (TRT, {"quantise_branch": True}, {("residual_add", "warning")}),
        (ORT, {"two_scales": True}, {("two_scales", "warning")}),
        (TRT, {"two_scales": True}, {("two_scales", "warning")}),
        (ORT, {"activation": "HardSwish"}, {("float_island", "warning")}),
        (ORT, {"per_tensor": True}, {("per_tensor_weights", "warning")}),
        (TRT, {"per_tensor": True}, {("per_tensor_weights", "warning")}),
        (ORT, {"weight_uint8": True}, {("unsigned_weights", "warning")}),
        (ORT, {"rounded_output": True}, {("rounded_output", "warning")}),
        (TRT, {"rounded_output": True}, {("rounded_output", "warning")}),
        (TRT, {"dtype": np.uint8}, {("not_symmetric", "error")}),
        (TRT, {"zero": 3}, {("not_symmetric", "error")}),
        (ORT, {"dtype": np.int8}, {("kept_rectifier", "warning")}),
        (TRT, {"bias": True}, {("integer_bias", "error")}),
        (ORT, {"float_output": True}, {("float_output", "warning")}),
        (ORT, {"float_bias": True}, {("float_output", "warning")}),
        (ORT, {"matmul": True}, {("float_output", "warning")}),
        (ORT, {"scale": 0.0}, {("bad_scale", "error")}),
        (ORT, {"scale": float("nan")}, {("bad_scale", "error")}),
        (TRT, {"scale": float("inf")}, {("bad_scale", "error")}),
        (TRT, {"scale": -0.1}, {("bad_scale", "error")}),
        (ORT, {"scale": 1e6}, {("bad_scale", "warning")}),
        (TRT, {"scale": 1e-20}, {("bad_scale", "warning")}),
    ],
)
def test_lint__finds_the_flaw(target: Target, flaws: dict[str, Any], expected: set[tuple[str, str]]) -> None:
    found = findings(target, **flaws)
    told = {(rule, level) for _, rule, level in grave(found)}
    assert told == expected
    assert all(one.message and one.cost and one.fix for one in found)


@pytest.mark.parametrize(
    ("target", "flaws"),
    [
        (ORT, {"bias": True}),
        (TRT, {"weight_uint8": True}),
        (TRT, {"matmul": True}),
        (ORT, {"float_head": True}),
        (TRT, {"float_head": True, "matmul": True}),
        (TRT, {"activation": "HardSwish"}),
        (TRT, {"float_output": True}),
        (ORT, {"scale": 1e-3}),
    ],
)
def test_lint__what_the_other_engine_minds(target: Target, flaws: dict[str, Any]) -> None:
    """What one engine cannot do is no flaw of a file for the other one; a head may stay in floating point."""
    grave_ones = [one for one in grave(findings(target, **flaws)) if one[1] != "not_symmetric"]
    assert grave_ones == []


def test_lint__names_the_node_and_its_share() -> None:
    found = {one.rule: one for one in findings(ORT, float_weight=True)}
    assert found["float_layer"].node == "branch"
    stem, branch, depthwise, head = 8 * 27 * 64, 8 * 72 * 64, 8 * 9 * 64, 64
    share = branch / (stem + branch + depthwise + head)
    assert found["float_layer"].cost == f"{share:.1%} of the multiply-adds in floating point"
    line = found["float_layer"].words()
    assert line.startswith("warning: branch: Conv with weight in floating point (")
    assert found["float_layer"].to_dict()["level"] == "warning"


def test_lint__gravest_first() -> None:
    found = findings(TRT, bias=True, per_tensor=True)
    assert [one.level for one in found] == ["error", "warning", "info", "info"]
    assert worst(found) == "error"
    assert worst([]) == "info"


def test_lint__weights_of_a_dead_filter_may_have_any_scale() -> None:
    model = Network(ORT).model()
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    stem = next(node for node in model.graph.node if node.name == "stem")
    restored = next(node for node in model.graph.node if node.output[0] == stem.input[1])
    scale, weight = (onnx.numpy_helper.to_array(stored[restored.input[i]]).copy() for i in (1, 0))
    scale[2] = 1e-20
    stored[restored.input[1]].CopyFrom(onnx.numpy_helper.from_array(scale, restored.input[1]))
    assert [one.rule for one in lint(model, ORT) if one.level == "warning"] == ["bad_scale"]
    weight[2] = 0
    stored[restored.input[0]].CopyFrom(onnx.numpy_helper.from_array(weight, restored.input[0]))
    assert grave(lint(model, ORT)) == []


def test_lint__a_float_model_is_not_looked_over() -> None:
    b = Builder()
    x = b.conv("image", (4, 3), weight=b.float_weight(4, 3, 3, 3))
    found = lint(b.model(x, (4, SIDE, SIDE)), ORT)
    assert [(one.rule, one.level, one.node) for one in found] == [("float_model", "info", "")]


def test_lint__two_unequal_quantisers_are_no_flaw_if_they_agree() -> None:
    def net(second: float) -> onnx.ModelProto:
        b = Builder()
        return b.model(b.add("Mul", b.qdq("image", 0.02), b.qdq("image", second)), (3, SIDE, SIDE))

    assert grave(lint(net(0.02), ORT)) == []
    assert [rule for _, rule, _ in grave(lint(net(0.03), ORT))] == ["two_scales"]


def test_lint__an_export_made_fit_for_its_engine() -> None:
    model = exported()
    before = grave(lint(model, ORT))
    assert [rule for _, rule, _ in before] == ["float_output"]
    fit_to_engine(model, ORT)
    assert grave(lint(model, ORT)) == []


def test_rules__each_has_a_docstring_and_a_name_of_its_own() -> None:
    names: list[Callable[..., Any]] = list(RULES)
    assert len({rule.__name__ for rule in names}) == len(RULES)
    assert all(rule.__doc__ for rule in names)
