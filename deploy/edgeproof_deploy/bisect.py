"""Where two engines part: the first node of a graph whose results differ beyond tolerance.

Polygraphy marks intermediate tensors as outputs, both sides run the marked graph on the same inputs, and the
tensors are compared in order of execution. Marking a tensor keeps an engine from fusing across it. A fault
that lies in a fusion is gone then; it is found by marking one tensor at a time, halving the graph.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from polygraphy.backend.onnx import ModifyOutputs
from polygraphy.logger import G_LOGGER

from edgeproof_deploy.onnx_graph import OnnxGraph, label_of

Arrays = Mapping[str, np.ndarray]
Run = Callable[[onnx.ModelProto, Arrays], Arrays]
"""Runs a model on inputs and returns its outputs by name."""

LIMITS = {"fp32": 1e-4, "fp16": 2e-2, "int8": 5e-2}
"""Largest difference of a value, as a share of its tensor's range, by the lower precision of the sides."""

COMPARED = (
    onnx.TensorProto.FLOAT,
    onnx.TensorProto.FLOAT16,
    onnx.TensorProto.DOUBLE,
    onnx.TensorProto.INT8,
    onnx.TensorProto.UINT8,
)


@dataclass(frozen=True)
class Side:
    """A model in an engine.

    Attributes:
        name: of the engine, as a reader knows it.
        model: what it runs.
        run: runs a model, this one or a marked one.
    """

    name: str
    model: onnx.ModelProto
    run: Run


@dataclass(frozen=True)
class Parting:
    """The first node at which two sides part.

    Attributes:
        node: its name, or its output's where it has none.
        operator: its kind.
        tensor: its output that differs.
        place: which node it is in order of execution, from 1.
        nodes: how many nodes there are.
        error: largest difference as a share of the reference's range; None where one side is not finite.
        in_fusion: whether it shows only where an engine may fuse it with its neighbours.
    """

    node: str
    operator: str
    tensor: str
    place: int
    nodes: int
    error: float | None
    in_fusion: bool = False

    def words(self) -> str:
        """Return `node 3 of 37, Conv '/layer1/Conv': differs by 0.2 of the range`."""
        told = "one side is not finite" if self.error is None else f"differs by {self.error:.3g} of the range"
        fused = ", only where it may be fused with its neighbours" if self.in_fusion else ""
        return f"node {self.place} of {self.nodes}, {self.operator} '{self.node}': {told}{fused}"


def bisect(reference: Side, candidate: Side, inputs: Arrays, limit: float) -> Parting | None:
    """Return the first node at which a candidate parts from its reference, or None if they agree.

    Args:
        reference: taken as right.
        candidate: its model has the same names of tensors, at least for most of the graph.
        inputs: by name.
        limit: largest difference allowed, as a share of the range of a tensor.

    Raises:
        ValueError: the models have no tensor in common.
    """
    names = common_tensors(reference.model, candidate.model)
    if not names:
        raise ValueError("the two models have no tensor of the same name")
    found = first_difference(reference, candidate, inputs, names, names, limit)
    if found is not None:
        return _parting(reference.model, *found, in_fusion=False)
    outputs = [name for name in OnnxGraph(reference.model).outputs if name in names]
    if first_difference(reference, candidate, inputs, outputs, outputs, limit) is None:
        return None
    low, high, error = 0, len(names) - 1, None
    while low < high:
        middle = (low + high) // 2
        marked = list(dict.fromkeys([names[middle], *outputs]))
        found = first_difference(reference, candidate, inputs, marked, [names[middle]], limit)
        low, high, error = (middle + 1, high, error) if found is None else (low, middle, found[1])
    if error is None:
        error = difference_at(reference, candidate, inputs, outputs)
    return _parting(reference.model, names[low], error, in_fusion=True)


def first_difference(
    reference: Side,
    candidate: Side,
    inputs: Arrays,
    marked: Sequence[str],
    looked_at: Sequence[str],
    limit: float,
) -> tuple[str, float | None] | None:
    """Mark tensors on both sides, and return the first one looked at that differs, with its error."""
    found = [side.run(with_outputs(side.model, marked), inputs) for side in (reference, candidate)]
    for name in looked_at:
        error = relative_error(found[0][name], found[1][name])
        if error is None or error > limit:
            return name, error
    return None


def difference_at(reference: Side, candidate: Side, inputs: Arrays, outputs: Sequence[str]) -> float | None:
    """Return the largest error of some outputs; None where one side is not finite."""
    found = [side.run(with_outputs(side.model, outputs), inputs) for side in (reference, candidate)]
    errors = [relative_error(found[0][name], found[1][name]) for name in outputs]
    known = [error for error in errors if error is not None]
    return max(known) if len(known) == len(errors) else None


def common_tensors(first: onnx.ModelProto, second: onnx.ModelProto) -> list[str]:
    """Return the computed tensors of numbers that two models share, in order of execution."""
    kinds = [OnnxGraph(onnx.shape_inference.infer_shapes(model)).kinds() for model in (first, second)]
    graph, other = OnnxGraph(first), {name for node in second.graph.node for name in node.output}
    return [
        name
        for node in graph.nodes
        if node.op_type != "Constant"
        for name in node.output
        if name in other and all(kind.get(name) in COMPARED for kind in kinds)
    ]


def with_outputs(model: onnx.ModelProto, names: Sequence[str]) -> onnx.ModelProto:
    """Return a copy of a model whose outputs are these tensors."""
    typed = onnx.shape_inference.infer_shapes(model)
    known = {value.name for value in typed.graph.value_info}
    typed.graph.value_info.extend(value for value in typed.graph.output if value.name not in known)
    with G_LOGGER.verbosity(G_LOGGER.CRITICAL):
        return ModifyOutputs(typed, outputs=list(names), copy=True)()


def relative_error(reference: np.ndarray, candidate: np.ndarray) -> float | None:
    """Return the largest difference divided by the range of the reference; None: one side is not finite.

    Values that are the same infinity, or NaN, on both sides are left out. Where all values of the reference
    are equal, their magnitude stands for the range, or 1.
    """
    a, b = (np.asarray(values, np.float64).ravel() for values in (reference, candidate))
    if a.shape != b.shape:
        return None
    usable = np.isfinite(a) & np.isfinite(b)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    if not (usable | same).all():
        return None
    if not usable.any():
        return 0.0
    a, b = a[usable], b[usable]
    spread = float(np.ptp(a)) or float(np.abs(a).max()) or 1.0
    return float(np.abs(a - b).max()) / spread


def _parting(model: onnx.ModelProto, tensor: str, error: float | None, *, in_fusion: bool) -> Parting:
    nodes = list(model.graph.node)
    place = next(i for i, node in enumerate(nodes) if tensor in node.output)
    node = nodes[place]
    return Parting(label_of(node), node.op_type, tensor, place + 1, len(nodes), error, in_fusion)
