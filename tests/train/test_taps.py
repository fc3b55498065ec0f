"""The taps on real networks of every layout, small ones."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

from edgeproof_configs.errors import UsageError
from edgeproof_train.taps import Taps, node_shapes

SIDE = 64
VIT: dict[str, Any] = {"img_size": 64, "embed_dim": 48, "depth": 3, "num_heads": 3}
SWIN: dict[str, Any] = {
    "img_size": 64,
    "embed_dim": 24,
    "depths": (2, 2),
    "num_heads": (2, 4),
    "window_size": 4,
}
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "resnet": lambda: timm.create_model("resnet10t", num_classes=0),
    "mobilenet": lambda: timm.create_model("mobilenetv2_050", num_classes=0),
    "vit": lambda: timm.create_model("vit_tiny_patch16_224", num_classes=0, **VIT),
    "registers": lambda: timm.create_model("vit_tiny_patch16_224", num_classes=0, reg_tokens=4, **VIT),
    "swin": lambda: timm.create_model("swin_tiny_patch4_window7_224", num_classes=0, **SWIN),
    "torchvision": lambda: torchvision.models.resnet18(),
    "torchvision_vit": lambda: torchvision.models.VisionTransformer(64, 16, 3, 3, 48, 96),
    "torchvision_swin": lambda: torchvision.models.SwinTransformer(
        [4, 4], 24, [1, 1], [2, 4], [4, 4], num_classes=10
    ),
}


def images(count: int = 1) -> Tensor:
    return torch.randn(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def resnet() -> nn.Module:
    return NETWORKS["resnet"]()


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        ("resnet", {"layer3": (256, 4, 4), "layer4.0": (512, 2, 2), "global_pool": (512, 1, 1)}),
        ("mobilenet", {"blocks.4": (48, 4, 4), "bn2": (1280, 2, 2), "global_pool:input": (1280, 2, 2)}),
        ("vit", {"patch_embed": (48, 4, 4), "blocks.1": (48, 4, 4), "norm": (48, 4, 4)}),
        ("registers", {"patch_embed": (48, 4, 4), "blocks.1": (48, 4, 4)}),
        ("swin", {"patch_embed.proj": (24, 16, 16), "layers.0": (24, 16, 16), "layers.1": (48, 8, 8)}),
        ("torchvision", {"layer2": (128, 8, 8), "avgpool:input": (512, 2, 2), "fc": (1000, 1, 1)}),
        ("torchvision_vit", {"encoder.layers.encoder_layer_1": (48, 4, 4), "conv_proj": (48, 4, 4)}),
        ("torchvision_swin", {"features.1": (24, 16, 16), "features.3": (48, 8, 8)}),
    ],
)
def test_node_shapes__of_every_layout(network: str, expected: dict[str, tuple[int, ...]]) -> None:
    module = NETWORKS[network]()
    assert node_shapes(module, list(expected), images()) == expected
    taps = Taps(module.eval(), list(expected))
    module(images(2))
    assert {node: tuple(found.shape) for node, found in taps.taken().items()} == {
        node: (2, *shape) for node, shape in expected.items()
    }


def test_taken__tokens_lie_where_their_patches_do() -> None:
    network: Any = NETWORKS["registers"]().eval()
    network.blocks = nn.Sequential(nn.Identity())
    taps = Taps(network, ["patch_embed.proj", "blocks"])
    network.pos_embed.data.zero_()
    network(images(2))
    found = taps.taken()
    torch.testing.assert_close(found["blocks"], found["patch_embed.proj"])


def test_taken__channels_last_are_moved_not_mixed() -> None:
    network = NETWORKS["swin"]().eval()
    taps = Taps(network, ["patch_embed.proj", "patch_embed.norm:input"])
    network(images(2))
    found = taps.taken()
    torch.testing.assert_close(found["patch_embed.norm:input"], found["patch_embed.proj"], rtol=0, atol=0)


class Cube(nn.Module):
    """A network whose one map is as wide as it has channels; it says which side they are on."""

    def __init__(self, output_fmt: str):
        super().__init__()
        self.output_fmt = output_fmt
        self.node = nn.Identity()

    def forward(self, image: Tensor) -> Tensor:
        return self.node(image)


@pytest.mark.parametrize(("output_fmt", "same"), [("NCHW", True), ("NHWC", False)])
def test_taken__the_network_decides_where_the_shape_does_not(output_fmt: str, same: bool) -> None:
    network, cube = Cube(output_fmt), torch.randn(2, 3, 3, 3)
    taps = Taps(network, ["node"])
    network(cube)
    expected = cube if same else cube.permute(0, 3, 1, 2)
    assert torch.equal(taps.taken()["node"], expected)


class Odd(nn.Module):
    """Gives whatever it was made with; `node` is called if `reached`."""

    def __init__(self, gives: Any, reached: bool = True):
        super().__init__()
        self.node = nn.Identity()
        self.gives = gives
        self.reached = reached

    def forward(self, image: Tensor) -> Any:
        del image
        return self.node(self.gives) if self.reached else self.gives


@pytest.mark.parametrize(
    ("gives", "shape"),
    [
        ((torch.zeros(1, 5, 4, 4), torch.zeros(1, 9)), (5, 4, 4)),
        ([None, [torch.zeros(1, 9)]], (9, 1, 1)),
        (torch.zeros(1, 17, 6), (6, 4, 4)),
        (torch.zeros(1, 5, 7, 9), (5, 7, 9)),
    ],
)
def test_node_shapes__of_tuples_and_of_tokens_nobody_described(gives: Any, shape: tuple[int, ...]) -> None:
    assert node_shapes(Odd(gives), ["node"], images()) == {"node": shape}


@pytest.mark.parametrize(
    ("gives", "reached", "message"),
    [
        ("text", True, "'node' gives no tensor"),
        (torch.zeros(1, 2, 3, 4, 5), True, r"gives \(1, 2, 3, 4, 5\)"),
        (torch.zeros(1, 48, 6), True, "48 tokens, which do not fill a square"),
        (torch.zeros(4, 17, 6), True, "gives 4 rows for 1 image"),
        (torch.zeros(1, 17, 6), False, "was not called"),
    ],
)
def test_node_shapes__what_is_no_map_is_refused(gives: Any, reached: bool, message: str) -> None:
    network = Odd(gives, reached)
    with pytest.raises(UsageError, match=message):
        node_shapes(network, ["node"], images())
    assert not hooks_on(network)


def test_node_shapes__tokens_in_another_order_are_refused() -> None:
    network: Any = Odd(torch.zeros(1, 16, 6))
    network.reroll = nn.Identity()
    with pytest.raises(UsageError, match="another order"):
        node_shapes(network, ["node"], images())


@pytest.mark.parametrize("node", ["bn1", "layer1.0.bn2", "maxpool"])
def test_node_shapes__what_is_written_over_is_refused(node: str) -> None:
    # torchvision's ReLU works in place on what the norm before it gave, and so does the sum after `bn2`.
    network = NETWORKS["torchvision"]()
    if node == "maxpool":
        assert node_shapes(network, [node], images()) == {node: (64, 16, 16)}
        return
    with pytest.raises(UsageError, match="written over"):
        node_shapes(network, [node], images())


@pytest.mark.parametrize(
    ("network", "node", "near", "likely"),
    [
        ("resnet", "layer33", "layer3", "layer1, layer1.0, layer2"),
        ("vit", "block.1", "blocks.1", "patch_embed, blocks, blocks.0 to blocks.2, norm"),
        (
            "torchvision_vit",
            "encoder.layer.0",
            "encoder",
            "encoder_layer_0 to encoder.layers.encoder_layer_2",
        ),
        ("mobilenet", "blocks.9", "blocks", "blocks.0 to blocks.6, conv_head, bn2"),
        ("mobilenet", "bn2:output", "bn2", "conv_stem"),
        ("mobilenet", "", "", "conv_stem"),
    ],
)
def test_taps__a_wrong_name_lists_the_right_ones(network: str, node: str, near: str, likely: str) -> None:
    module = NETWORKS[network]()
    with pytest.raises(UsageError) as caught:
        Taps(module, ["", node] if not node else [next(iter(dict(module.named_children()))), node])
    assert f"no node '{node}'" in caught.value.what
    assert not near or f"Did you mean '{near}" in caught.value.what
    assert likely in (caught.value.fix or "")
    assert not hooks_on(module)


def test_taken__has_a_gradient_and_forgets(resnet: nn.Module) -> None:
    taps = Taps(resnet, ["layer3", "layer3", "layer4"])
    resnet(images(2))
    found = taps.taken()
    assert list(found) == ["layer3", "layer4"]
    found["layer3"].sum().backward()
    stem: Any = resnet.get_submodule("conv1.0")
    assert stem.weight.grad.abs().sum() > 0
    kept = weakref.ref(found["layer3"])
    del found
    assert kept() is None
    with pytest.raises(UsageError, match="not called"):
        taps.taken()


def test_taken__the_last_pass_counts(resnet: nn.Module) -> None:
    taps = Taps(resnet.eval(), ["layer2"])
    resnet(images(2))
    first = taps.taken()["layer2"]
    resnet(-images(2))
    resnet(images(2))
    assert torch.equal(taps.taken()["layer2"], first)


def test_node_shapes__leaves_the_network_as_it_was(resnet: nn.Module) -> None:
    resnet.train().get_submodule("layer2").eval()
    modes = {name: part.training for name, part in resnet.named_modules()}
    state = copy.deepcopy(resnet.state_dict())
    node_shapes(resnet, ["layer2"], images())
    assert {name: part.training for name, part in resnet.named_modules()} == modes
    assert len(set(modes.values())) == 2
    assert all(torch.equal(value, state[name]) for name, value in resnet.state_dict().items())
    assert not hooks_on(resnet)
    assert node_shapes(resnet, [], images()) == {}


def test_taps__a_deep_copy_is_not_tapped(resnet: nn.Module) -> None:
    taps = Taps(resnet.eval(), ["layer2"])
    resnet(images())
    other = copy.deepcopy(resnet)
    first = taps.taken()["layer2"]
    resnet(images())
    other(-images())
    assert torch.equal(taps.taken()["layer2"], first)


def test_remove__leaves_a_network_that_copies_and_exports() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3, stride=8), nn.ReLU(), nn.Flatten()).eval()
    expected = network(images())
    taps = Taps(network, ["0", "1:input"])
    taps.remove()
    assert not hooks_on(network)
    student = copy.deepcopy(network)
    assert torch.equal(student(images()), expected)
    program = torch.onnx.export(student, (images(),), dynamo=True, opset_version=18, verbose=False)
    assert program is not None
    assert len(program.model_proto.graph.output) == 1
    with pytest.raises(UsageError, match="not called"):
        taps.taken()


def test_taps__inside_the_wrappers(resnet: nn.Module) -> None:
    wrapped = torch.compile(nn.DataParallel(resnet), backend="eager")
    assert node_shapes(wrapped, ["layer2"], images()) == {"layer2": (128, 8, 8)}  # pyright: ignore[reportArgumentType]


def test_taps__under_compilation() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3, stride=8), nn.ReLU(), nn.Flatten())
    taps = Taps(network, ["0", "1:input", "1"])
    network(images())
    eager = taps.taken()
    network.compile(backend="aot_eager")
    for _ in range(2):
        network(images())
        found = taps.taken()
        assert list(found) == list(eager)
        for node in found:
            torch.testing.assert_close(found[node], eager[node])
            assert found[node].requires_grad


def hooks_on(network: nn.Module) -> list[str]:
    """Return the names of modules that have hooks."""
    return [name for name, part in network.named_modules() if part._forward_hooks or part._forward_pre_hooks]
