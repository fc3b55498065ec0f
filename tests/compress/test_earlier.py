from __future__ import annotations

import pytest
import torch
from tests.compress.earlier_checkpoints import with_asp

from edgeproof_compress.earlier import apply_masks, sort_entries
from edgeproof_compress.masks import is_2_4
from edgeproof_configs.errors import UsageError


def a_weight() -> torch.Tensor:
    return torch.randn(8, 16, 3, 3, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", ["__weight_mma_mask", "weight_mma_mask", "_weight_mask"])
def test_sort_entries__knows_masks_by_each_of_their_names(name: str) -> None:
    mask = torch.ones(2, 4, dtype=torch.uint8)
    found = sort_entries({"a.0.weight": torch.ones(2, 4), f"a.0.{name}": mask}, ())
    assert list(found.weights) == ["a.0.weight"]
    assert list(found.masks) == ["a.0.weight"]
    assert found.masks["a.0.weight"].dtype == torch.bool


def test_sort_entries__other_masks_of_a_network_are_weights() -> None:
    tensors = {"blocks.0.attn_mask": torch.zeros(2), "blocks.0.mask": torch.zeros(2)}
    assert list(sort_entries(tensors, ()).weights) == list(tensors)


@pytest.mark.parametrize("mark", ["_", ""], ids=["pytorch_quantization", "modelopt"])
def test_sort_entries__sorts_ranges(mark: str) -> None:
    tensors = {
        "a.weight": torch.ones(3, 4),
        f"a.{mark}input_quantizer._amax": torch.tensor(2.0),
        f"a.{mark}weight_quantizer._amax": torch.ones(3, 1),
        f"a.{mark}weight_quantizer._pre_quant_scale": torch.ones(3),
        "b.residual_quantizer._amax": torch.tensor(1.0),
    }
    found = sort_entries(tensors, ("a", f"a.{mark}input_quantizer", f"c.{mark}input_quantizer"))
    assert list(found.weights) == ["a.weight"]
    assert found.input_ranges == {"a": torch.tensor([2.0])}
    assert found.weight_ranges["a"].shape == (3,)
    assert found.other_ranges == ["b.residual_quantizer"]
    assert found.left == [f"a.{mark}weight_quantizer._pre_quant_scale"]
    assert (len(found.quantizers), found.ranged()) == (4, 3)


def test_sort_entries__a_learned_range_is_what_was_rounded_with() -> None:
    tensors = {
        "a._input_quantizer._amax": torch.tensor(9.0),
        "a._input_quantizer.clip.clip_value_min": torch.tensor(-1.5),
        "a._input_quantizer.clip.clip_value_max": torch.tensor(1.25),
    }
    found = sort_entries(tensors, ())
    assert found.input_ranges == {"a": torch.tensor([1.5])}
    assert not found.left


def test_apply_masks__multiplies_and_keeps_masks_of_the_pattern() -> None:
    state = with_asp({"a.weight": a_weight(), "b.weight": torch.ones(3, 4)}, put_aside=True)
    weights, kept, told = apply_masks(sort_entries(state, ()))
    assert torch.equal(weights["a.weight"], state["a.weight"])
    assert torch.equal(kept["a.weight"], state["a.__weight_mma_mask"])
    assert is_2_4(weights["a.weight"])
    assert list(weights) == ["a.weight", "b.weight"]
    assert told == ["sparsity: 1 mask of the 2:4 pattern kept, the weights multiplied by them"]


def test_apply_masks__zeroes_and_tells_what_grew_again() -> None:
    state = with_asp({"a.weight": a_weight()})
    dropped = ~state["a.__weight_mma_mask"]
    state["a.weight"] = a_weight()
    weights, _, told = apply_masks(sort_entries(state, ()))
    assert not weights["a.weight"][dropped].any()
    assert f"a.weight ({int(dropped.sum())})" in told[1]
    assert "had numbers where the mask drops them" in told[1]


def test_apply_masks__tells_of_masks_that_are_not_2_4() -> None:
    mask = torch.ones(8, 16, 3, 3, dtype=torch.bool)
    mask[0] = False
    weights, kept, told = apply_masks(sort_entries({"a.weight": a_weight(), "a.__weight_mma_mask": mask}, ()))
    assert not kept
    assert not weights["a.weight"][0].any()
    assert weights["a.weight"][1:].all()
    assert "1 mask not 2:4" in told[-1]


def test_apply_masks__tells_of_a_sparsity_that_was_never_turned_on() -> None:
    state = {"a.weight": a_weight(), "a.__weight_mma_mask": torch.ones(8, 16, 3, 3)}
    weights, kept, told = apply_masks(sort_entries(state, ()))
    assert not kept
    assert torch.equal(weights["a.weight"], a_weight())
    assert "never turned on: a.weight" in told[-1]


@pytest.mark.parametrize("weight", [None, torch.ones(8, 4)])
def test_apply_masks__refuses_a_mask_that_fits_no_weight(weight: torch.Tensor | None) -> None:
    state = {"a.__weight_mma_mask": torch.ones(8, 16, 3, 3)} | (
        {} if weight is None else {"a.weight": weight}
    )
    with pytest.raises(UsageError, match=r"the mask of 'a.weight' is \(8, 16, 3, 3\)"):
        apply_masks(sort_entries(state, ()))
