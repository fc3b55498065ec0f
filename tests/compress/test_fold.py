from __future__ import annotations

import pytest
import torch
from tests.compress.small_students import SIDE, images, make_student
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

from edgeproof_compress.fold import fold_batch_norms, fold_into
from edgeproof_compress.graph import trace


class Net(nn.Module):
    """Batch norms after other things than a layer of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.BatchNorm2d(3)
        self.conv = nn.Conv2d(3, 8, 3)
        self.own = nn.BatchNorm2d(8)
        self.shared = nn.Conv2d(8, 8, 1)
        self.twice = nn.BatchNorm2d(8)
        self.branched = nn.Conv2d(8, 8, 1)
        self.beside = nn.BatchNorm2d(8)
        self.last = nn.Conv2d(8, 8, 1)
        self.of_batch = nn.BatchNorm2d(8, track_running_stats=False)

    def forward(self, image: Tensor) -> Tensor:
        value = self.own(self.conv(self.first(image)))
        value = self.twice(self.shared(value)) + self.twice(self.shared(value + 1))
        value = self.branched(value)
        return self.of_batch(self.last(self.beside(value) + value))


def scrambled(net: nn.Module) -> nn.Module:
    """Return a network in evaluation whose batch norms do something."""
    torch.manual_seed(0)
    for norm in net.modules():
        if isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None:
            nn.init.normal_(norm.weight)
            nn.init.normal_(norm.bias)
            norm.running_mean.normal_()
            assert norm.running_var is not None
            norm.running_var.uniform_(0.2, 3)
    return net.eval()


@pytest.mark.parametrize("model", ["cifar_resnet8", "mobilenetv2_035", "test_resnet.r160_in1k"])
def test_fold_batch_norms__keeps_the_output(model: str) -> None:
    student = make_student(model)
    graph = trace(student)
    before = student(images()).embedding
    assert fold_batch_norms(graph) == []
    assert not any(isinstance(module, _BatchNorm) for module in graph.modules())
    torch.testing.assert_close(graph(images()), before, rtol=1e-5, atol=1e-5)


def test_fold_batch_norms__keeps_the_activation_of_timms_norm_and_no_dead_parameter() -> None:
    graph = trace(make_student("mobilenetv2_035"))
    fold_batch_norms(graph)
    assert sum(isinstance(module, nn.ReLU6) for module in graph.modules()) > 10
    graph(images()).sum().backward()
    assert [name for name, parameter in graph.named_parameters() if parameter.grad is None] == []


def test_fold_batch_norms__names_what_stays() -> None:
    net = scrambled(Net())
    graph = fx.symbolic_trace(net)
    before = net(images(side=SIDE))
    assert fold_batch_norms(graph) == ["first", "twice", "beside", "of_batch"]
    assert not hasattr(graph, "own")
    torch.testing.assert_close(graph(images(side=SIDE)), before, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("affine", [True, False])
def test_fold_into__gives_what_ranges_of_weights_are_multiplied_with(affine: bool) -> None:
    layer, norm = nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8, affine=affine)
    scrambled(nn.Sequential(layer, norm) if affine else layer)
    value = images()
    expected = norm.eval()(layer(value))
    before = layer.weight.detach().abs().amax(dim=(1, 2, 3))
    scale = fold_into(layer, norm)
    assert (scale < 0).any() == affine, "a negative gamma must be among them"
    torch.testing.assert_close(layer.weight.detach().abs().amax(dim=(1, 2, 3)), before * scale.abs())
    torch.testing.assert_close(layer(value), expected, rtol=1e-5, atol=1e-5)
