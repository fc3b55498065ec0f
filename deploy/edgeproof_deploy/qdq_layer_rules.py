"""Rules about what an engine fuses: layers, rectifiers, additions, and what lies between them."""

from __future__ import annotations

from collections.abc import Iterator

import onnx

from edgeproof_deploy.finding import Finding
from edgeproof_deploy.onnx_graph import input_of, label_of
from edgeproof_deploy.qdq_passes import MOVES, Target, bounds_of, restored_by, saturates
from edgeproof_deploy.quantised_graph import ABSORBED, QUANTISERS, QuantisedGraph

STAYS = (*QUANTISERS, *ABSORBED, *MOVES, "Add", "Conv", "Gemm", "MatMul", "Pad", "BatchNormalization")
"""What is no island: other rules speak of it."""

INTEGER_KERNELS = ("AveragePool", "Concat", "GlobalAveragePool", "LeakyRelu", "Mul", "Sigmoid", "Softmax")
"""What ONNX Runtime computes in integers, where all around it is quantised."""


def batch_norm(graph: QuantisedGraph, target: Target) -> Iterator[Finding]:
    """A batch norm that is not folded into the weights before it."""
    for node in graph.of_type("BatchNormalization"):
        said = "the batch norm is not folded into the layer before it"
        cost = "a pass of its own over the picture, and the layer before it gives floating point"
        yield Finding(
            label_of(node), "batch_norm", "warning", said, cost, "fold it before the weights are quantised"
        )


def padding(graph: QuantisedGraph, target: Target) -> Iterator[Finding]:
    """A `Pad` before a convolution."""
    for node in graph.of_type("Pad"):
        users = [user for user in graph.behind(node.output[0]) if user.op_type == "Conv"]
        if users:
            said = f"pads for {label_of(users[0])}, which can pad itself"
            cost = "a copy of the whole picture"
            yield Finding(
                label_of(node), "padding", "warning", said, cost, "fold_pads, at a fixed height and width"
            )


def float_layer(graph: QuantisedGraph, target: Target) -> Iterator[Finding]:
    """A layer whose input or weights are not quantised; the first and the last may be meant so."""
    for layer in graph.layers:
        missing = [
            what
            for what, name in (("input", layer.input[0]), ("weight", layer.input[1]))
            if restored_by(graph, name) is None
        ]
        if missing:
            at_end = layer in (graph.layers[0], graph.layers[-1])
            said = f"{layer.op_type} with {' and '.join(missing)} in floating point"
            yield Finding(
                label_of(layer),
                "float_layer",
                "info" if at_end and len(missing) == 2 else "warning",
                said,
                f"{graph.share_of(layer)} in floating point",
                "quantise both, or neither where accuracy asks for it",
            )


def float_output(graph: QuantisedGraph, target: Target) -> Iterator[Finding]:
    """A layer in integers whose result is not quantised: ONNX Runtime then computes it in floating point."""
    if target != "onnxruntime":
        return
    for layer in graph.layers:
        if not graph.has_integers(layer) or _gives_float(graph, layer):
            continue
        end = graph.end_of(layer)
        added = graph.only_consumer(end)
        if graph.only_quantised(end) or (added is not None and _is_residual(graph, added)):
            continue
        said, fix = "its result is not quantised", "quantise it"
        if layer.op_type != "Conv":
            said, fix = "its bias is in floating point", "make it a Gemm with a 32-bit bias: integer_biases"
        cost = f"{graph.share_of(layer)} in floating point"
        said = f"{layer.op_type} of integers that is not computed so: {said}"
        yield Finding(label_of(layer), "float_output", "warning", said, cost, fix)


def kept_rectifier(graph: QuantisedGraph, target: Target) -> Iterator[Finding]:
    """A `Relu` or `Clip` between convolution and quantiser that the quantiser's range does not do for."""
    if target != "onnxruntime":
        return
    for node in graph.of_type(*ABSORBED):
        layer, bounds = graph.producer(node.input[0]), bounds_of(graph, node)
        users = [user for user in graph.consumers(node.output[0]) if graph.has_step(user)]
        fits = bounds is not None and all(saturates(graph, user, *bounds) for user in users)
        if not users or fits or layer is None or layer.op_type not in ("Conv", "Add"):
            continue
        of_layer = layer in graph.layers
        yield Finding(
            label_of(node),
            "kept_rectifier",
            "warning",
            f"{node.op_type} before integers whose range goes beyond it",
            f"{graph.share_of(layer) if of_layer else 'an addition'} in floating point",
            "write uint8 with zero point 0, and no larger range than the bound",
        )


def residual_add(graph: QuantisedGraph, target: Target) -> Iterator[Finding]:
    """An addition at a convolution whose quantised sides the engine does not fuse."""
    for node in graph.of_type("Add"):
        if not _is_residual(graph, node):
            continue
        quantised = [restored_by(graph, name) is not None for name in node.input]
        if target == "onnxruntime":
            missing = [f"side {side}" for side, there in enumerate(quantised) if not there]
            missing += [] if graph.only_quantised(graph.end_of(node)) else ["output"]
            said = f"not quantised: {', '.join(missing)}" if missing else ""
            cost, fix = "the addition and the convolutions at it run in floating point", "quantise all three"
        else:
            said = _tensorrt_complaint(graph, node, quantised)
            cost = "convolution, addition and ReLU are three kernels in place of one"
            fix = "quantise the shortcut, and not the output of the main branch"
        if said:
            yield Finding(label_of(node), "residual_add", "warning", said, cost, fix)


def float_island(graph: QuantisedGraph, target: Target) -> Iterator[Finding]:
    """Operators in floating point on the way from one convolution in integers to the next."""
    done: set[str] = set()
    for node in graph.nodes:
        if node.output[0] in done or not _is_floating(graph, node, target):
            continue
        island = _connected(graph, node, target)
        done |= {one.output[0] for one in island}
        before = [graph.convolution_before(_skip(graph, name)) for one in island for name in one.input]
        after = [user for one in island for user in _reached(graph, one.output[0])]
        if any(before) and any(user.op_type == "Conv" and graph.has_integers(user) for user in after):
            kinds = ", ".join(one.op_type for one in island)
            yield Finding(
                label_of(node),
                "float_island",
                "warning" if target == "onnxruntime" else "info",
                f"{kinds} in floating point between convolutions in integers",
                f"{len(island)} operators, and a conversion on each side",
                "quantise around them, or choose an activation that engines fuse, such as ReLU",
            )


def ends(graph: QuantisedGraph, target: Target) -> Iterator[Finding]:
    """The first and the last layer, which accuracy depends on most."""
    places = {"first": graph.layers[0], "last": graph.layers[-1]} if len(graph.layers) > 1 else {}
    for place, layer in places.items():
        if graph.has_integers(layer):
            said, cost = f"the {place} layer is quantised", "perhaps accuracy"
            fix = "compare with quantization.exclude: [stem] or [head]"
            yield Finding(label_of(layer), "ends", "info", said, cost, fix)


def _gives_float(graph: QuantisedGraph, layer: onnx.NodeProto) -> bool:
    """Whether ONNX Runtime has a kernel for a layer that takes integers and gives floating point."""
    if layer.op_type == "MatMul":
        # With the bias that is added to it, a product of two matrices becomes a Gemm.
        shape, user = graph.shape(layer.output[0]), graph.only_consumer(layer.output[0])
        biased = user is not None and user.op_type == "Add" and any(map(graph.is_constant, user.input))
        return not biased or shape is None or len(shape) != 2
    bias = input_of(layer, 2)
    return layer.op_type == "Gemm" and (not bias or restored_by(graph, bias) is not None)


def _is_residual(graph: QuantisedGraph, node: onnx.NodeProto) -> bool:
    """Whether an addition has two computed sides, one of them from a convolution in integers."""
    if node.op_type != "Add" or any(graph.is_constant(name) for name in node.input):
        return False
    return any(graph.convolution_before(name) is not None for name in node.input)


def _tensorrt_complaint(graph: QuantisedGraph, node: onnx.NodeProto, quantised: list[bool]) -> str:
    if not any(quantised):
        return "the shortcut is not quantised"
    if all(quantised):
        return "both sides are quantised"
    direct = node.input[quantised.index(False)]
    conv = graph.producer(direct)
    return (
        "" if conv is not None and conv.op_type == "Conv" else "the side in floating point is no convolution"
    )


def _is_floating(graph: QuantisedGraph, node: onnx.NodeProto, target: Target) -> bool:
    """Whether an operator computes values in floating point, and no other rule speaks of it."""
    if node.op_type in STAYS or graph.is_constant(node.output[0]) or not node.input:
        return False
    values = [name for name in node.input if name and not graph.is_constant(name)]
    fused = target == "onnxruntime" and node.op_type in INTEGER_KERNELS
    inside = all(restored_by(graph, name) is not None for name in values)
    return not (fused and inside and graph.only_quantised(node.output[0]))


def _connected(graph: QuantisedGraph, start: onnx.NodeProto, target: Target) -> list[onnx.NodeProto]:
    """Return the floating operators that are joined to one, in order of execution."""
    found, todo = {start.output[0]}, [start]
    while todo:
        node = todo.pop()
        makers = [graph.producer(name) for name in node.input]
        for other in (*makers, *graph.consumers(node.output[0])):
            if other is not None and other.output[0] not in found and _is_floating(graph, other, target):
                found.add(other.output[0])
                todo.append(other)
    return [node for node in graph.nodes if node.output[0] in found]


def _skip(graph: QuantisedGraph, name: str) -> str:
    """Return the tensor before the `Relu`, `Clip` or move that made this one."""
    node = graph.before(name)
    while node is not None and node.op_type in (*ABSORBED, *MOVES):
        name = node.input[0]
        node = graph.before(name)
    return name


def _reached(graph: QuantisedGraph, name: str) -> Iterator[onnx.NodeProto]:
    """Yield what a tensor is used by, across quantisers, rectifiers and moves."""
    for user in graph.behind(name):
        if user.op_type in (*ABSORBED, *MOVES):
            yield from _reached(graph, user.output[0])
        else:
            yield user
