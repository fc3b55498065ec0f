"""Ranges of an earlier quantised network, in the terms of our own: folded batch norms, values by name.

pytorch-quantization gives every layer a range of its weight and one of its input. Here the weight is the one
after folding, so its range is multiplied with what the batch norm multiplies each output channel with,
|gamma| / sqrt(var + eps); and the input is a value of the graph, which several layers may read. What engines
want quantised beside these (outputs of convolutions, both sides of a residual addition) has no range there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from edgeproof_compress.earlier import Earlier
from edgeproof_compress.fold import fold_into
from edgeproof_compress.graph import calls, module_of, source_of, trace
from edgeproof_compress.placement import layer_nodes
from edgeproof_compress.quantized_student import QuantizationSpec, QuantizedStudent
from edgeproof_data.paths import counted, some_of
from edgeproof_train.student import Student


@dataclass
class PlacedRanges:
    """Ranges by the names that a quantised student gives them.

    Attributes:
        activations: value -> largest magnitude kept.
        weights: layer -> (O,), of the folded weight.
        read_by: value -> the layers whose earlier input range it has.
        missing: value -> engines that need a range of it and find none.
        told: what was found, in words.
    """

    activations: dict[str, float] = field(default_factory=dict)
    weights: dict[str, Tensor] = field(default_factory=dict)
    read_by: dict[str, list[str]] = field(default_factory=dict)
    missing: dict[str, list[str]] = field(default_factory=dict)
    told: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return the contents of `earlier_ranges.json`."""
        return {
            "activations": self.activations,
            "weights": {layer: ranges.tolist() for layer, ranges in self.weights.items()},
            "read_by": self.read_by,
            "missing": self.missing,
        }


def place_ranges(student: Student, earlier: Earlier, names: dict[str, str]) -> PlacedRanges:
    """Return the ranges of a state dict for the student that was made of it.

    Args:
        student: with the weights of that state dict.
        earlier: the state dict, sorted.
        names: name of a layer of the student -> its name in the state dict.

    Raises:
        UsageError: the student cannot be shown as a graph.
        MissingPackageError: the package that simulates rounding is not installed.
    """
    ranged = set(earlier.input_ranges) | set(earlier.weight_ranges)
    layers = tuple(layer for layer in layer_nodes(trace(student)) if names.get(layer) in ranged)
    placed = PlacedRanges()
    strange = sorted(ranged - {names[layer] for layer in layers})
    if strange:
        placed.told.append(f"INT8: ranges of what is no layer of the student, not kept: {some_of(strange)}")
    if earlier.other_ranges:
        count = counted(len(earlier.other_ranges), "range")
        placed.told.append(
            f"INT8: {count} of other places than layers' inputs and weights, not kept:"
            f" {some_of(sorted(earlier.other_ranges))}"
        )
    if not layers:
        return placed
    quantized = QuantizedStudent(student, QuantizationSpec(layers))
    place_weights(
        placed,
        quantized,
        {layer: earlier.weight_ranges.get(names[layer]) for layer in layers},
        fold_factors(student, quantized.unfolded),
    )
    place_inputs(placed, quantized, {layer: earlier.input_ranges.get(names[layer]) for layer in layers})
    placed.told.append(told_of_missing(placed, len(quantized.quantizers())))
    return placed


def fold_factors(student: Student, unfolded: list[str]) -> dict[str, Tensor]:
    """Return for each layer with a folded batch norm what its output channels are multiplied with, (O,)."""
    graph = trace(student)
    factors: dict[str, Tensor] = {}
    for node, norm in list(calls(graph)):
        if isinstance(norm, _BatchNorm) and str(node.target) not in unfolded:
            before = source_of(graph, node.all_input_nodes[0])
            layer = module_of(graph, before)
            assert isinstance(layer, nn.Conv2d | nn.Linear)
            factors[str(before.target)] = fold_into(layer, norm).abs()
    return factors


def place_weights(
    placed: PlacedRanges,
    quantized: QuantizedStudent,
    found: dict[str, Tensor | None],
    factors: dict[str, Tensor],
) -> None:
    """Take the ranges of weights, one for each output channel of the folded weight."""
    folded = quantized.tensors()
    lacking: list[str] = []
    unusable: list[str] = []
    for layer, amax in found.items():
        if amax is None:
            lacking.append(layer)
            continue
        weight = folded[f"{layer}.weight"]
        channels = weight.shape[0]
        if amax.numel() not in (1, channels):
            unusable.append(f"{layer} ({amax.numel()} for {channels} channels)")
            continue
        ranges = amax.expand(channels) * factors.get(layer, torch.ones(channels))
        silent = weight.flatten(1).abs().amax(dim=1) == 0
        # A channel that is zero stays zero at any range.
        ranges = torch.where(silent, 1.0, ranges)
        if not (torch.isfinite(ranges) & (ranges > 0)).all():
            unusable.append(f"{layer} (not positive)")
            continue
        placed.weights[layer] = ranges
    placed.told.append(
        f"INT8: ranges of {counted(len(placed.weights), 'weight')} kept, for folded batch norms"
    )
    tell(placed, "no range of the weight of", lacking)
    tell(placed, "unusable ranges of the weight of", unusable)


def place_inputs(placed: PlacedRanges, quantized: QuantizedStudent, found: dict[str, Tensor | None]) -> None:
    """Take the ranges of inputs; of two layers that read the same value the larger one."""
    reads = quantized.reads()
    lacking: list[str] = []
    unusable: list[str] = []
    differing: list[str] = []
    for layer, amax in found.items():
        if amax is None:
            lacking.append(layer)
        elif amax.numel() != 1 or not torch.isfinite(amax).all() or float(amax) <= 0:
            unusable.append(f"{layer} ({float(amax) if amax.numel() == 1 else f'{amax.numel()} values'})")
        else:
            value, largest = reads[layer], float(amax)
            before = placed.activations.get(value, largest)
            if abs(before - largest) > 0.01 * max(before, largest):
                differing.append(f"{value} ({before:.4g} and {largest:.4g})")
            placed.activations[value] = max(before, largest)
            placed.read_by.setdefault(value, []).append(layer)
    for value, quantizer in quantized.quantizers().items():
        if value not in placed.activations:
            placed.missing[value] = sorted(quantizer.targets)
    placed.told.append(f"INT8: ranges of {counted(len(placed.activations), 'value')} that layers read kept")
    tell(placed, "no range of the input of", lacking)
    tell(placed, "unusable ranges of the input of", unusable)
    tell(placed, "layers that read the same value disagreed, the larger range was taken:", differing)


def tell(placed: PlacedRanges, words: str, names: list[str]) -> None:
    """Note something that is true of some layers, if it is of any."""
    if names:
        placed.told.append(f"INT8: {words} {some_of(names)}")


def told_of_missing(placed: PlacedRanges, needed: int) -> str:
    """Return what is missing for INT8, in words."""
    if not placed.missing:
        return "INT8: every value that engines want quantised has a range"
    return (
        f"INT8: {len(placed.missing)} of {needed} values that engines want quantised have no range in the"
        f" file ({some_of(list(placed.missing))})"
    )
