from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.compress.small_students import images, make_student
from torch import nn

from edgeproof_compress import graph
from edgeproof_compress.channel_spaces import ChannelSpace, channel_spaces, permute_space
from edgeproof_train.students.timm import TimmStudent


def by_name(spaces: list[ChannelSpace]) -> dict[str, ChannelSpace]:
    return {space.name: space for space in spaces}


def shuffled(student: TimmStudent, **settings: Any) -> int:
    """Shuffle every space of a student; return how many there are."""
    spaces = channel_spaces(student, **settings)
    generator = torch.Generator().manual_seed(4)
    for space in spaces:
        permute_space(student, space, torch.randperm(space.channels, generator=generator).tolist())
    return len(spaces)


@pytest.mark.parametrize(
    ("model", "count", "settings"),
    [
        ("resnet18", 12, {}),
        ("mobilenetv2_050", 25, {}),
        ("cifar_resnet8", 4, {"head": "mlp"}),
        ("test_vit", 6, {}),
        ("efficientnet_lite0", 24, {}),
        ("mobilenetv3_small_050", 26, {}),
        ("resnetblur18", 8, {}),
    ],
)
def test_permute_space__leaves_the_output_as_it_was(model: str, count: int, settings: dict[str, Any]) -> None:
    student = make_student(model, **settings)
    before = {name: value.clone() for name, value in student.state_dict().items()}
    with torch.no_grad():
        expected = student(images()).embedding
        exact = student.double()(images().double()).embedding
        student.float()
        assert shuffled(student) == count
        found = student(images()).embedding
        exactly = student.double()(images().double()).embedding
    changed = [name for name, value in student.float().state_dict().items() if not value.equal(before[name])]
    assert len(changed) >= 2 * count
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * float(expected.abs().max()) + 1e-5)
    torch.testing.assert_close(exactly, exact, rtol=0, atol=1e-9 * float(exact.abs().max()))


def test_channel_spaces__of_a_resnet() -> None:
    found = by_name(channel_spaces(make_student("resnet18")))
    hidden = found["backbone.layer2.0.conv1"]
    assert hidden.consumers == ("backbone.layer2.0.conv2",)
    assert hidden.followers == ("backbone.layer2.0.bn1",)
    stream = found["backbone.layer4.0.conv2"]
    assert stream.channels == 512
    assert set(stream.producers) == {
        "backbone.layer4.0.conv2",
        "backbone.layer4.0.downsample.0",
        "backbone.layer4.1.conv2",
    }
    assert set(stream.consumers) == {"backbone.layer4.1.conv1", "head"}
    assert not any("head" in space.producers for space in found.values())
    assert not any("backbone.conv1" in space.consumers for space in found.values())


def test_channel_spaces__what_a_loss_looks_at_keeps_its_order() -> None:
    student = make_student("resnet18")
    kept = by_name(channel_spaces(student, ["backbone.layer4"]))
    assert "backbone.layer4.0.conv2" not in kept
    assert "backbone.layer4.0.conv1" in kept
    assert "backbone.layer3.0.conv2" in kept
    assert "backbone.layer3.0.conv2" not in by_name(channel_spaces(student, ["backbone.layer4:input"]))


def test_channel_spaces__depthwise_layers_follow() -> None:
    found = by_name(channel_spaces(make_student("mobilenetv2_050")))
    space = found["backbone.blocks.1.0.conv_pw"]
    assert "backbone.blocks.1.0.conv_dw" in space.followers
    assert space.consumers == ("backbone.blocks.1.0.conv_pwl",)


class Network(nn.Module):
    """Gives what a function makes of an image, as a student does."""

    def __init__(self, make: Any, **modules: nn.Module):
        super().__init__()
        self.make = make
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.make(self, image)


def layers(**more: nn.Module) -> dict[str, nn.Module]:
    return {"one": nn.Conv2d(3, 16, 1), "two": nn.Conv2d(16, 16, 1), **more}


UNKNOWN: dict[str, tuple[Any, dict[str, nn.Module]]] = {
    "concatenation": (
        lambda n, x: n.three(torch.cat([n.one(x), n.one(x)], 1)),
        {"three": nn.Conv2d(32, 8, 1)},
    ),
    "softmax": (lambda n, x: n.two(n.one(x).softmax(1)), {}),
    "chunks": (lambda n, x: n.three(n.one(x).chunk(2, 1)[0]), {"three": nn.Conv2d(8, 8, 1)}),
    "a grouped layer": (lambda n, x: n.two(n.three(n.one(x))), {"three": nn.Conv2d(16, 16, 1, groups=4)}),
    "a norm over groups": (lambda n, x: n.two(n.three(n.one(x))), {"three": nn.GroupNorm(4, 16)}),
    "a weight by channel": (lambda n, x: n.two(n.three(n.one(x))), {"three": nn.PReLU(16)}),
    "pixels as channels": (lambda n, x: n.three(n.one(x).flatten(1)), {"three": nn.Linear(16 * 64, 8)}),
    "tokens": (lambda n, x: n.three(n.one(x).flatten(2).transpose(1, 2)), {"three": nn.Linear(16, 8)}),
    "a linear layer on maps": (lambda n, x: n.three(n.one(x)), {"three": nn.Linear(8, 8)}),
    "its own weight": (lambda n, x: n.two(n.one(x)) + n.one.weight.sum(), {}),
    "the image": (lambda n, x: n.two(n.one(x) + x.mean(1, keepdim=True)), {}),
    "a slice": (lambda n, x: n.two(n.one(x)[:, :, ::2]), {}),
    "a mean of channels": (lambda n, x: n.two(n.one(x) * n.one(x).mean(1, keepdim=True)), {}),
}


@pytest.mark.parametrize("case", UNKNOWN)
def test_channel_spaces__what_is_not_known_keeps_its_order(
    case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, more = UNKNOWN[case]
    assert spaces_of(Network(make, **layers(**more)), monkeypatch) == []


KNOWN: dict[str, tuple[Any, dict[str, nn.Module]]] = {
    "a gate": (
        lambda n, x: n.two(n.one(x) * n.three(x.mean((2, 3), keepdim=True))),
        {"three": nn.Conv2d(3, 16, 1)},
    ),
    "pooled and flat": (lambda n, x: n.three(n.one(x).mean((2, 3)).relu()), {"three": nn.Linear(16, 8)}),
    "called twice": (lambda n, x: n.two(n.one(x)) + n.two(n.one(x.relu())), {}),
    "scaled": (lambda n, x: n.two(n.one(x) * 2 + 1), {}),
    "sizes asked": (lambda n, x: n.two(n.one(x).view(x.shape[0], 16, 8, 8)), {}),
}


@pytest.mark.parametrize("case", KNOWN)
def test_channel_spaces__what_is_known_moves_together(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make, more = KNOWN[case]
    torch.manual_seed(5)
    network = Network(make, **layers(**more))
    image = torch.randn(2, 3, 8, 8)
    expected = network(image)
    (space,) = spaces_of(network, monkeypatch)
    permute_space(network, space, torch.randperm(16).tolist())
    torch.testing.assert_close(network(image), expected)


def test_channel_spaces__shared_weights_keep_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    network: Any = Network(lambda n, x: n.three(n.two(n.one(x))), **layers(three=nn.Conv2d(16, 16, 1)))
    assert len(spaces_of(network, monkeypatch)) == 2
    network.three.weight = network.two.weight
    assert spaces_of(network, monkeypatch) == []


def test_permute_space__refuses_what_is_no_order() -> None:
    student = make_student()
    space = channel_spaces(student)[0]
    with pytest.raises(ValueError, match="expected an order of 16 channels"):
        permute_space(student, space, [0] * 16)


def spaces_of(network: nn.Module, monkeypatch: pytest.MonkeyPatch) -> list[ChannelSpace]:
    """Return the spaces of a network that is no student."""
    from types import SimpleNamespace

    from edgeproof_compress import channel_spaces as module

    monkeypatch.setattr(module, "trace", lambda _: torch.fx.symbolic_trace(network))
    student: Any = SimpleNamespace(preprocess=SimpleNamespace(image_size=8))
    assert graph.trace is not module.trace
    return channel_spaces(student)
