"""Changes of an exported graph that no value depends on, but the speed of an engine does."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgeproof_deploy.onnx_graph import OnnxGraph, attribute, input_of, remove_nodes, set_attribute


def fold_pads(model: onnx.ModelProto) -> int:
    """Make every `Pad` with zeros that only a convolution sees a part of that convolution, in place.

    An engine runs a `Pad` of its own over the whole picture, and does not fuse across it. Quantisers between
    the two do not matter: zero is rounded to zero.

    Returns:
        how many are gone.
    """
    graph = OnnxGraph(model)
    gone: list[str] = []
    for pad in graph.of_type("Pad"):
        user = _conv_behind(graph, pad)
        before_after = _zero_padding(graph, pad)
        if user is None or before_after is None:
            continue
        conv, first = user
        own = attribute(conv, "pads", [0] * len(before_after))
        set_attribute(conv, "pads", [int(a + b) for a, b in zip(own, before_after, strict=True)])
        set_attribute(conv, "auto_pad", "NOTSET")
        first.input[0] = pad.input[0]
        gone.append(pad.output[0])
    _forget_shapes(model, graph, gone)
    remove_nodes(model, gone)
    return len(gone)


def transpose_weights(model: onnx.ModelProto) -> int:
    """Store the quantised weights of every `MatMul` in the order that it reads them, in place.

    MatMul(x, Transpose(DequantizeLinear(W (O, I), axis 0))) becomes MatMul(x, DequantizeLinear(W^T, axis 1)):
    an engine looks for a quantised weight right before the product.

    Returns:
        how many products were changed.
    """
    graph = OnnxGraph(model)
    made: dict[str, str] = {}
    changed = 0
    for product in graph.of_type("MatMul"):
        turned = graph.producer(product.input[1])
        if turned is None or turned.op_type != "Transpose" or attribute(turned, "perm") not in (None, [1, 0]):
            continue
        restored = graph.producer(turned.input[0])
        if restored is None or not is_restored_matrix(graph, restored):
            continue
        if turned.output[0] not in made:
            made[turned.output[0]] = _add_transposed(model, graph, restored)
        product.input[1] = made[turned.output[0]]
        changed += 1
    _remove_unused(model)
    return changed


def _conv_behind(graph: OnnxGraph, pad: onnx.NodeProto) -> tuple[onnx.NodeProto, onnx.NodeProto] | None:
    """Return the only convolution that sees a `Pad`, and the first node on the way to it."""
    name, first = pad.output[0], None
    while True:
        node = graph.only_consumer(name)
        if node is None or input_of(node, 0) != name:
            return None
        first = first or node
        if node.op_type == "Conv":
            return (node, first) if attribute(node, "auto_pad", "NOTSET") in ("NOTSET", "VALID") else None
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear") or graph.shape(node.input[1]) not in (
            (),
            (1,),
        ):
            return None
        name = node.output[0]


def _zero_padding(graph: OnnxGraph, pad: onnx.NodeProto) -> list[int] | None:
    """Return the zeros before and after each spatial side, or None where a `Pad` does something else."""
    pads = graph.constant(input_of(pad, 1))
    if attribute(pad, "mode", "constant") != "constant" or pads is None:
        return None
    value, axes = input_of(pad, 2), input_of(pad, 3)
    zero = graph.constant(value) if value else np.zeros(1)
    if zero is None or zero.any() or (pads < 0).any():
        return None
    rank = _rank(graph, pad)
    sides = graph.constant(axes) if axes else np.arange(len(pads) // 2)
    if rank is None or sides is None:
        return None
    full = np.zeros((2, rank), np.int64)
    full[:, sides % rank] = pads.reshape(2, -1)
    return None if full[:, :2].any() else full[:, 2:].flatten().tolist()


def _rank(graph: OnnxGraph, pad: onnx.NodeProto) -> int | None:
    if not input_of(pad, 3):
        pads = graph.constant(input_of(pad, 1))
        return None if pads is None else len(pads) // 2
    shape = graph.shape(pad.input[0]) or graph.shape(pad.output[0])
    return len(shape) if shape else None


def _forget_shapes(model: onnx.ModelProto, graph: OnnxGraph, gone: list[str]) -> None:
    """Drop the noted shapes of quantised tensors that were padded before."""
    stale: set[str] = set()
    for name in gone:
        node = graph.only_consumer(name)
        while node is not None and node.op_type != "Conv":
            stale.add(node.output[0])
            node = graph.only_consumer(node.output[0])
    kept = [value for value in model.graph.value_info if value.name not in stale]
    del model.graph.value_info[:]
    model.graph.value_info.extend(kept)


def is_restored_matrix(graph: OnnxGraph, node: onnx.NodeProto) -> bool:
    """Whether a node restores a stored matrix from integers, with one scale or one for each row."""
    if node.op_type != "DequantizeLinear" or not all(graph.is_constant(name) for name in node.input):
        return False
    shape, scale = graph.shape(node.input[0]), graph.shape(node.input[1])
    assert shape is not None
    assert scale is not None
    rows = attribute(node, "axis", 1) % 2 == 0 if len(shape) == 2 else False
    return len(shape) == 2 and (scale == () or (rows and scale == shape[:1]))


def _add_transposed(model: onnx.ModelProto, graph: OnnxGraph, restored: onnx.NodeProto) -> str:
    """Add the transposed weight and its `DequantizeLinear`, and return the name of what that gives."""
    weight = graph.constant(restored.input[0])
    assert weight is not None
    name = f"{restored.input[0]}.transposed"
    model.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(weight.T), name))
    node = onnx.NodeProto()
    node.CopyFrom(restored)
    node.name = f"{restored.name}_transposed" if restored.name else ""
    node.input[0], node.output[0] = name, f"{restored.output[0]}_transposed"
    set_attribute(node, "axis", 1)
    place = next(i for i, other in enumerate(model.graph.node) if other.output[0] == restored.output[0])
    model.graph.node.insert(place, node)
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(np.float32))
    model.graph.value_info.append(helper.make_tensor_value_info(node.output[0], kind, weight.T.shape))
    return node.output[0]


def _remove_unused(model: onnx.ModelProto) -> None:
    """Remove nodes whose result nothing uses, again and again until all are used."""
    while True:
        used = {name for node in model.graph.node for name in node.input}
        used |= {value.name for value in model.graph.output}
        unused = [node.output[0] for node in model.graph.node if not used & set(node.output)]
        if not unused:
            return remove_nodes(model, ())
        remove_nodes(model, unused)
