from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edgeproof_compress.masks import (
    hold,
    is_2_4,
    kept_magnitude,
    load_masks,
    mask_2_4,
    save_masks,
    zeroing,
)
from edgeproof_configs.errors import EdgeproofError

PATTERNS = torch.tensor([[float(i in pair) for i in range(4)] for pair in combinations(range(4), 2)])
"""The 6 ways to keep two of four: m4n2_1d takes, for each four, the one that keeps the most |w|."""


def by_patterns(matrix: Tensor) -> Tensor:
    """Return the mask of (R, I) by trying all patterns on each four."""
    fours = matrix.abs().reshape(-1, 4)
    return PATTERNS[(fours @ PATTERNS.T).argmax(dim=1)].reshape(matrix.shape).bool()


@pytest.mark.parametrize("shape", [(8, 16), (5, 4), (8, 32, 3, 3), (6, 8, 1, 5)])
def test_mask_2_4__is_m4n2_1d(shape: tuple[int, ...]) -> None:
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(3))
    mask = mask_2_4(weight)
    assert mask.shape == weight.shape
    assert mask.dtype == torch.bool
    if weight.ndim == 2:
        assert torch.equal(mask, by_patterns(weight))
    else:
        for row in range(shape[2]):
            for column in range(shape[3]):
                expected = by_patterns(weight[:, :, row, column])
                assert torch.equal(mask[:, :, row, column], expected)
    assert kept_magnitude(weight) == pytest.approx(float((weight.abs() * mask).sum()), rel=1e-5)


def test_mask_2_4__ties_go_to_the_lower_channel() -> None:
    weight = torch.tensor([[1.0, -1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0], [1.0, 2.0, -1.0, 1.0]])
    expected = [[1, 1, 0, 0], [1, 1, 0, 0], [1, 1, 0, 0]]
    assert mask_2_4(weight).int().tolist() == expected


def test_mask_2_4__equals_apex() -> None:
    library = pytest.importorskip(
        "apex.contrib.sparsity.sparse_masklib", reason="apex with its ASP is not installed"
    )
    if not torch.cuda.is_available():
        pytest.skip("apex computes masks on CUDA only")
    weight = torch.randn(16, 32, 3, 3, generator=torch.Generator().manual_seed(4)).cuda()
    theirs = library.create_mask(weight, pattern="m4n2_1d").bool()
    assert torch.equal(theirs, mask_2_4(weight))


@pytest.mark.parametrize("shape", [(4, 6), (4,), (4, 3, 3, 3), (2, 4, 4)])
def test_mask_2_4__refuses_what_has_no_fours(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="multiple of 4"):
        mask_2_4(torch.zeros(shape))
    assert not is_2_4(torch.zeros(shape))


def test_is_2_4__looks_along_the_input_channels() -> None:
    weight = torch.randn(8, 16, 3, 3, generator=torch.Generator().manual_seed(5))
    assert not is_2_4(weight)
    sparse = weight * mask_2_4(weight)
    assert is_2_4(sparse)
    assert int((sparse == 0).sum()) == sparse.numel() // 2
    sparse[0, :4, 1, 1] = 1.0
    assert not is_2_4(sparse)


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.AdamW])
def test_hold__dropped_weights_stay_zero(optimizer: Any) -> None:
    torch.manual_seed(0)
    network: Any = nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 4))
    masks = {name: mask_2_4(network.get_parameter(name)) for name in ("0.weight", "2.weight")}
    hold(network, masks)
    before = network[0].weight.detach().clone()
    extra: dict[str, Any] = {"momentum": 0.9} if optimizer is torch.optim.SGD else {}
    step = optimizer(network.parameters(), lr=0.1, weight_decay=0.1, **extra)
    for _ in range(5):
        step.zero_grad()
        network(torch.randn(6, 16)).square().sum().backward()
        step.step()
    for name, mask in masks.items():
        weight = network.get_parameter(name).detach()
        assert (weight[~mask] == 0).all()
        assert (weight[mask] != 0).all()
    assert not torch.equal(before, network[0].weight)


def test_hold__an_infinite_gradient_of_a_dropped_weight_is_zero() -> None:
    layer = nn.Linear(4, 1, bias=False)
    hold(layer, {"weight": torch.tensor([[True, True, False, False]])})
    (layer.weight * torch.tensor([[1.0, 1.0, torch.inf, torch.nan]])).sum().backward()
    assert layer.weight.grad is not None
    assert layer.weight.grad.tolist() == [[1.0, 1.0, 0.0, 0.0]]


@pytest.mark.parametrize("strides", [(8, 1, 8, 8), (8, 1, 1, 1)])
def test_hold__leaves_the_layout_of_a_gradient(strides: tuple[int, ...]) -> None:
    gradient = torch.ones(4, 8, 1, 1).as_strided((4, 8, 1, 1), strides)
    found = zeroing(mask_2_4(torch.randn(4, 8, 1, 1)))(gradient)
    assert found.stride() == strides
    assert int(found.sum()) == 16
    assert int(gradient.sum()) == 32


def test_hold__taken_off_and_frozen() -> None:
    layer = nn.Linear(4, 1)
    mask = {"weight": torch.tensor([[True, False, True, False]])}
    for handle in hold(layer, mask):
        handle.remove()
    layer(torch.ones(1, 4)).sum().backward()
    assert layer.weight.grad is not None
    assert layer.weight.grad.tolist() == [[1.0] * 4]
    layer.requires_grad_(False)
    assert hold(layer, mask) == []


def test_hold__refuses_a_mask_of_another_layer() -> None:
    with pytest.raises(ValueError, match=r"weight is \(1, 4\), its mask \(1, 8\)"):
        hold(nn.Linear(4, 1), {"weight": torch.ones(1, 8, dtype=torch.bool)})


def test_save_masks__and_load(tmp_path: Path) -> None:
    masks = {"a.weight": mask_2_4(torch.randn(4, 8, 3, 3)), "b.weight": mask_2_4(torch.randn(4, 8))}
    file = tmp_path / "masks.safetensors"
    save_masks(file, masks)
    found = load_masks(file)
    assert set(found) == set(masks)
    assert all(torch.equal(found[name], mask) for name, mask in masks.items())
    file.write_bytes(file.read_bytes()[:20])
    with pytest.raises(EdgeproofError, match="cut or damaged"):
        load_masks(file)
