"""What apex's ASP and pytorch-quantization leave in a state dict, told apart from the weights.

ASP (apex.contrib.sparsity) registers a buffer `__weight_mma_mask` at each pruned layer, and
`__weight_mma_pruned_p` with what it has set aside where masks may be computed again. pytorch-quantization 2
gives each layer `_input_quantizer` and `_weight_quantizer`, whose buffer `_amax` exists from calibration on.
nvidia-modelopt's names differ by underscores (`_weight_mask`, `input_quantizer._amax`) and are read as well.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from edgeproof_compress.masks import is_2_4
from edgeproof_configs.errors import UsageError
from edgeproof_data.paths import counted, some_of

MASK = re.compile(r"(?P<layer>.+)\.(?:(?:__)?(?P<asp>\w+?)_mma_mask|_(?P<modelopt>weight)_mask)")
SET_ASIDE = re.compile(r".+_mma_pruned_p|n_averaged")
IN_QUANTIZER = re.compile(r"(?P<quantizer>(?:.+\.)?\w*quantizer)\.(?P<entry>.+)")
QUANTIZER = re.compile(r"(?:.+\.)?\w*quantizer")
OF_LAYER = re.compile(r"(?P<layer>.+)\._?(?P<side>input|weight)_quantizer")
LEAST, MOST = "clip.clip_value_min", "clip.clip_value_max"


@dataclass
class Earlier:
    """A state dict, sorted.

    Attributes:
        weights: parameters and statistics of the network.
        masks: bool, True where a weight stays, by the name of the parameter.
        input_ranges: the largest magnitude that is kept of what a layer reads, by layer.
        weight_ranges: the same of its weight; one value, or one for each output channel.
        quantizers: names of all quantisers that the file knows of.
        other_ranges: quantisers with a range that belong to no layer's input or weight.
        left: names of entries that nothing is made of.
    """

    weights: dict[str, Tensor] = field(default_factory=dict)
    masks: dict[str, Tensor] = field(default_factory=dict)
    input_ranges: dict[str, Tensor] = field(default_factory=dict)
    weight_ranges: dict[str, Tensor] = field(default_factory=dict)
    quantizers: set[str] = field(default_factory=set)
    other_ranges: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)

    def ranged(self) -> int:
        """Return how many quantisers have a range."""
        return len(self.input_ranges) + len(self.weight_ranges) + len(self.other_ranges)


def sort_entries(tensors: Mapping[str, Tensor], modules: Collection[str]) -> Earlier:
    """Tell weights, masks and ranges apart by their names.

    Args:
        tensors: a state dict.
        modules: names of the network's modules; what was never calibrated is known by these alone.
    """
    found = Earlier(quantizers={name for name in modules if QUANTIZER.fullmatch(name)})
    entries: dict[str, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if inside := IN_QUANTIZER.fullmatch(name):
            entries.setdefault(inside["quantizer"], {})[inside["entry"]] = value
        elif mask := MASK.fullmatch(name):
            found.masks[f"{mask['layer']}.{mask['asp'] or mask['modelopt']}"] = value.bool()
        elif SET_ASIDE.fullmatch(name):
            found.left.append(name)
        else:
            found.weights[name] = value
    for quantizer, held in entries.items():
        take_quantizer(found, quantizer, held)
    return found


def take_quantizer(found: Earlier, quantizer: str, held: dict[str, Tensor]) -> None:
    """Sort the entries of one quantiser; a learned range (`clip`) is what it rounded with."""
    found.quantizers.add(quantizer)
    amax = held.pop("_amax", None)
    if LEAST in held and MOST in held:
        amax = torch.maximum(-held.pop(LEAST), held.pop(MOST))
    found.left.extend(f"{quantizer}.{entry}" for entry in held)
    if amax is None:
        return
    of_layer = OF_LAYER.fullmatch(quantizer)
    if of_layer is None:
        found.other_ranges.append(quantizer)
        return
    ranges = found.input_ranges if of_layer["side"] == "input" else found.weight_ranges
    ranges[of_layer["layer"]] = amax.detach().float().flatten()


def apply_masks(found: Earlier) -> tuple[dict[str, Tensor], dict[str, Tensor], list[str]]:
    """Multiply weights by their masks.

    Returns:
        All weights; the masks that are 2:4; what was found, in words.

    Raises:
        UsageError: a mask fits no weight.
    """
    weights, kept = dict(found.weights), {}
    idle: list[str] = []
    others: list[str] = []
    grown: list[str] = []
    for name, mask in found.masks.items():
        weight = weights.get(name)
        if weight is None or weight.shape != mask.shape:
            has = "there is no such weight" if weight is None else f"the weight is {tuple(weight.shape)}"
            raise UsageError(
                f"the mask of '{name}' is {tuple(mask.shape)}, {has}", fix="import the file as it was written"
            )
        if mask.all():
            idle.append(name)
            continue
        nonzero = int((weight[~mask] != 0).sum())
        if nonzero:
            grown.append(f"{name} ({nonzero})")
        weights[name] = weight.masked_fill(~mask, 0)
        if is_2_4(mask.float()):
            kept[name] = mask
        else:
            others.append(name)
    if not found.masks:
        return weights, kept, ["sparsity: there are no masks in the file"]
    return weights, kept, told_of_masks(len(kept), idle, others, grown)


def told_of_masks(kept: int, idle: list[str], others: list[str], grown: list[str]) -> list[str]:
    """Return what there is to say about masks."""
    told = [f"sparsity: {counted(kept, 'mask')} of the 2:4 pattern kept, the weights multiplied by them"]
    if grown:
        told.append(
            f"sparsity: {counted(len(grown), 'weight')} had numbers where the mask drops them, now zero:"
            f" {some_of(grown)}"
        )
    if others:
        told.append(
            f"sparsity: {counted(len(others), 'mask')} not 2:4; the weights are multiplied by them, the masks"
            f" not kept: {some_of(others)}"
        )
    if idle:
        told.append(
            f"sparsity: {counted(len(idle), 'mask')} that drop nothing, not kept: ASP was set up there and"
            f" never turned on: {some_of(idle)}"
        )
    return told
