from __future__ import annotations

from functools import cache

import pytest
import torch
from tests.compress.small_students import make_student
from torch import Tensor, fx, nn

from edgeproof_compress.fold import fold_batch_norms
from edgeproof_compress.graph import module_of, source_of, trace
from edgeproof_compress.placement import ADDITIONS, TARGETS, Placement, layer_nodes, place
from edgeproof_compress.quantized_student import QuantizationSpec, QuantizedStudent

BOTH = set(TARGETS)
Rounded = dict[str, set[str]]


@cache
def folded(model: str) -> fx.GraphModule:
    graph = trace(make_student(model))
    fold_batch_norms(graph)
    return graph


def placed(graph: fx.GraphModule, without: tuple[str, ...] = ()) -> tuple[Placement, Rounded]:
    """Return the placement, and the engines by the module or else the node that a value comes from."""
    placement = place(graph, [name for name in layer_nodes(graph) if name not in without])
    named = {
        str(node.target) if node.op == "call_module" else node.name: {str(target) for target in targets}
        for node, targets in placement.values.items()
    }
    return placement, {name.removeprefix("backbone."): targets for name, targets in named.items()}


def test_place__rounds_a_basic_block_for_each_engine() -> None:
    _, values = placed(folded("resnet18"))
    block = {name: targets for name, targets in values.items() if name.startswith("layer1.1")}
    assert block == {
        # Read by the second convolution.
        "layer1.1.act1": BOTH,
        # The main branch, before the addition.
        "layer1.1.conv2": {"onnxruntime"},
        # Read by the next block's convolutions.
        "layer1.1.act2": BOTH,
    }
    assert values["layer1.0.act2"] == BOTH, "the shortcut, and what the block's first convolution reads"
    assert "layer1.1.conv1" not in values, "an engine computes the ReLU with the convolution"
    assert not any(name.startswith("add") for name in values), "only the ReLU after the addition is rounded"


def test_place__takes_the_downsampling_branch_for_tensorrt() -> None:
    _, values = placed(folded("resnet18"))
    assert values["layer2.0.downsample.0"] == BOTH
    assert values["layer2.0.conv2"] == {"onnxruntime"}
    tensorrt = {name for name, targets in values.items() if "tensorrt" in targets}
    assert not tensorrt & {f"layer{stage}.{block}.conv2" for stage in range(1, 5) for block in (0, 1)}


def test_place__one_quantiser_serves_the_max_pool_and_what_it_pools() -> None:
    placement, values = placed(folded("resnet18"))
    assert {
        str(a.target): str(b.target) for a, b in placement.aliases.items() if "maxpool" in str(a.target)
    } == {"backbone.maxpool": "backbone.act1"}
    assert values["maxpool"] == values["act1"] == BOTH
    names = layer_nodes(folded("resnet18"))
    student = QuantizedStudent(make_student("resnet18"), QuantizationSpec(tuple(names)))
    quantizers = [n.target for n in student.graph.graph.nodes if str(n.target).endswith("_backbone_act1")]
    assert quantizers == ["quantize_student_backbone_act1"] * 2


def test_place__shares_one_quantiser_between_a_convolution_and_the_shortcut() -> None:
    names = tuple(layer_nodes(folded("resnet18")))
    graph = QuantizedStudent(make_student("resnet18"), QuantizationSpec(names)).graph.graph
    additions = [node for node in graph.nodes if node.target in ADDITIONS]
    assert len(additions) == 8
    assert all(
        str(side.target).startswith("quantize_") for node in additions for side in node.all_input_nodes
    )
    shared = [side for node in additions for side in node.all_input_nodes if len(side.users) > 1]
    assert len(shared) == 5, "of the blocks without down-sampling, and of none of the others"
    for side in shared:
        assert any(str(user.target).endswith("conv1") for user in side.users)


def test_place__leaves_alone_what_only_excluded_layers_need() -> None:
    _, values = placed(folded("resnet18"), ("backbone.conv1", "backbone.layer2.0.conv1", "head"))
    assert "image" not in values
    assert "layer2.0.act1" in values, "the second convolution still reads it"
    assert not any(name.startswith(("fc", "global_pool", "head")) for name in values)
    both = ("backbone.layer2.0.conv2", "backbone.layer2.0.downsample.0")
    _, values = placed(folded("resnet18"), both)
    assert "layer2.0.conv2" not in values
    assert "layer2.0.downsample.0" not in values


def test_place__with_one_excluded_branch_rounds_it_as_the_other_side() -> None:
    _, values = placed(folded("resnet18"), ("backbone.layer2.0.downsample.0",))
    assert values["layer2.0.downsample.0"] == BOTH
    assert values["layer2.0.conv2"] == {"onnxruntime"}


def test_place__refuses_a_layer_that_is_not_there() -> None:
    with pytest.raises(KeyError, match="nothing"):
        place(folded("cifar_resnet8"), ["nothing"])


def test_place__in_mobilenet_rounds_what_adds_have_and_no_linear_bottleneck_twice() -> None:
    graph = folded("mobilenetv2_035")
    placement, _ = placed(graph)
    for node in graph.graph.nodes:
        if node.target in ADDITIONS:
            sides = [source_of(graph, side) for side in node.all_input_nodes]
            assert all("onnxruntime" in placement.values[side] for side in (*sides, node))
            assert sum("tensorrt" in placement.values[side] for side in sides) == 1
    assert not any(isinstance(module_of(graph, node), nn.AdaptiveAvgPool2d) for node in placement.aliases)


def test_place__in_a_transformer_rounds_what_linear_layers_read_and_nothing_else() -> None:
    graph = folded("test_vit")
    layers = layer_nodes(graph)
    placement, _ = placed(graph)
    read = {source_of(graph, node.all_input_nodes[0]) for node in layers.values()}
    patch = layers["backbone.patch_embed.proj"]
    assert all(value in {*read, patch} or value in placement.aliases.values() for value in placement.values)
    for node in placement.values:
        assert node.target not in (*ADDITIONS, torch.nn.functional.softmax)
        assert not any(isinstance(module_of(graph, before), nn.Softmax) for before in node.all_input_nodes)
    norms = [node for node in graph.graph.nodes if node.target is torch.nn.functional.layer_norm]
    assert norms
    assert not any(before in placement.values for node in norms for before in node.all_input_nodes)


@pytest.mark.parametrize("model", ["cifar_resnet8", "mobilenetv2_035", "test_vit"])
def test_place__never_rounds_the_embedding(model: str) -> None:
    graph = folded(model)
    placement, _ = placed(graph)
    output = next(node for node in graph.graph.nodes if node.op == "output")
    assert not set(output.all_input_nodes) & set(placement.values)


def test_place__never_rounds_the_output_of_a_last_convolution() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.act, self.drop = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Dropout()

        def forward(self, image: Tensor) -> Tensor:
            return self.drop(self.act(self.conv(image)))

    placement, values = placed(fx.symbolic_trace(Net().eval()))
    assert values == {"image": BOTH}
    assert [node.name for node in placement.layers] == ["conv"]


def test_place__comes_in_the_same_order_every_time() -> None:
    names = [[node.name for node in placed(folded("resnet18"))[0].values] for _ in range(2)]
    assert names[0] == names[1]
    fresh = trace(make_student("resnet18"))
    fold_batch_norms(fresh)
    assert [node.name for node in placed(fresh)[0].values] == names[0]


def test_layer_nodes__leaves_out_a_layer_that_is_called_twice() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.last = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 4, 1)

        def forward(self, image: Tensor) -> Tensor:
            return self.last(self.conv(self.conv(image)))

    assert list(layer_nodes(fx.symbolic_trace(Net()))) == ["last"]
