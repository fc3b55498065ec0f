from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from edgeproof_train.ema import Ema


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))


def change(module: nn.Module) -> None:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter))
    module(torch.randn(8, 3))


def copied(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def test_update__by_hand() -> None:
    module = network()
    ema = Ema(module, decay=0.9)
    before = copied(module)
    change(module)
    ema.update(step=1)
    # (1 + 1) / (10 + 1), below 0.9
    expected = before["0.weight"] * 2 / 11 + module.state_dict()["0.weight"] * 9 / 11
    torch.testing.assert_close(ema.average["0.weight"], expected)


def test_update__buffers_are_copied() -> None:
    module = network()
    ema = Ema(module, decay=0.9)
    change(module)
    ema.update(step=1)
    for name in ("1.running_mean", "1.running_var", "1.num_batches_tracked"):
        assert torch.equal(ema.average[name], module.state_dict()[name])


def test_decay_at__the_rule_for_long_runs() -> None:
    ema = Ema(network())
    assert ema.decay_at(2000) == pytest.approx(0.9999 * (1 - math.exp(-1)))
    assert ema.decay_at(10**6) == pytest.approx(0.9999)


def test_decay_at__a_given_decay_is_reached_and_kept() -> None:
    ema = Ema(network(), decay=0.99)
    assert ema.decay_at(1) == pytest.approx(2 / 11)
    assert ema.decay_at(10_000) == 0.99


def test_swapped__average_inside_and_weights_after() -> None:
    module = network()
    ema = Ema(module, decay=0.9)
    change(module)
    ema.update(step=1)
    change(module)
    weights, average = copied(module), {name: value.clone() for name, value in ema.average.items()}
    with ema.swapped():
        for name, value in module.state_dict().items():
            assert torch.equal(value, average[name])
    for name, value in module.state_dict().items():
        assert torch.equal(value, weights[name])
        assert torch.equal(ema.average[name], average[name])


def test_swapped__weights_come_back_after_an_error() -> None:
    module = network()
    ema = Ema(module, decay=0.9)
    change(module)
    weights = copied(module)
    with pytest.raises(RuntimeError, match="evaluation"), ema.swapped():
        raise RuntimeError("evaluation")
    assert all(torch.equal(value, weights[name]) for name, value in module.state_dict().items())
