"""What ONNX Runtime makes of a file: which operators run in integers, and which stayed in floating point."""

from __future__ import annotations

import tempfile
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import onnx

from edgeproof_configs.errors import EdgeproofError
from edgeproof_deploy.onnx_graph import OnnxGraph, label_of
from edgeproof_deploy.runtime.session import FATAL_ONLY, first_line, import_onnxruntime

INTEGER = {
    "convolutions": ("QLinearConv", "ConvInteger"),
    "products": ("QGemm", "QLinearMatMul", "MatMulIntegerToFloat", "DynamicQuantizeMatMul", "MatMulInteger"),
    "additions": ("QLinearAdd",),
}
FLOAT = {
    "convolutions": ("Conv", "FusedConv", "NhwcFusedConv"),
    "products": ("Gemm", "FusedGemm", "MatMul", "FusedMatMul"),
    "additions": ("Add",),
}
"""By what they compute. A product of two computed values and the addition of a bias are not counted."""


@dataclass(frozen=True)
class FusionSummary:
    """How much of a network ONNX Runtime runs in integers.

    Attributes:
        integer: how many convolutions, products and additions do.
        floating: names of those that do not.
        operators: all operators that it runs, with how often.
    """

    integer: dict[str, int]
    floating: dict[str, list[str]]
    operators: dict[str, int]

    @property
    def is_whole(self) -> bool:
        """Whether every convolution, product and addition runs in integers."""
        return any(self.integer.values()) and not any(self.floating.values())

    def words(self) -> str:
        """Return `20 of 20 convolutions, 1 of 1 products, 8 of 8 additions in integers`."""
        parts = [
            f"{count} of {count + len(self.floating[kind])} {kind}"
            for kind, count in self.integer.items()
            if count or self.floating[kind]
        ]
        return f"{', '.join(parts) or 'nothing'} in integers"

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)


def optimised(model: Path | bytes, threads: int | None = None) -> onnx.ModelProto:
    """Return the graph as ONNX Runtime runs it on the CPU, without its changes of memory layout.

    Args:
        model: a file, or the bytes of one.
        threads: within one operator; None leaves the choice to ONNX Runtime.

    Raises:
        UnavailableError: onnxruntime is not installed.
        EdgeproofError: the file is no model that it can load.
    """
    runtime = import_onnxruntime()
    options = runtime.SessionOptions()
    options.log_severity_level = FATAL_ONLY
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    if threads is not None:
        options.intra_op_num_threads = threads
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / "optimised.onnx"
        options.optimized_model_filepath = str(written)
        source = str(model) if isinstance(model, Path) else model
        try:
            runtime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            # onnxruntime raises its own classes, which have no base but Exception.
            raise EdgeproofError(
                f"cannot be loaded by ONNX Runtime: {first_line(error)}",
                where=model if isinstance(model, Path) else None,
                fix="run the export stage again",
            ) from error
        return onnx.load(written)


def fused_operators(model: Path | bytes, threads: int | None = None) -> dict[str, int]:
    """Return how often ONNX Runtime runs each operator, by name.

    Args:
        model: a file, or the bytes of one.
        threads: within one operator; None leaves the choice to ONNX Runtime.
    """
    return dict(sorted(Counter(node.op_type for node in optimised(model, threads).graph.node).items()))


def fusion_summary(model: Path | bytes, threads: int | None = None) -> FusionSummary:
    """Return how many layers and residual additions run in integers, and which do not.

    Args:
        model: a file, or the bytes of one.
        threads: within one operator; None leaves the choice to ONNX Runtime.
    """
    return summary_of(optimised(model, threads))


def summary_of(run: onnx.ModelProto) -> FusionSummary:
    """Return the same of a graph that `optimised` gave."""
    graph = OnnxGraph(run)
    counts = Counter(node.op_type for node in graph.nodes)
    integer = {kind: sum(counts[name] for name in names) for kind, names in INTEGER.items()}
    floating = {
        kind: [label_of(node) for node in graph.of_type(*names) if _counts(graph, node)]
        for kind, names in FLOAT.items()
    }
    return FusionSummary(integer, floating, dict(sorted(counts.items())))


def _counts(graph: OnnxGraph, node: onnx.NodeProto) -> bool:
    """Whether a node has weights, or is an addition without; a bias or a position is added for little."""
    if node.op_type == "Add":
        return not any(graph.is_constant(name) for name in node.input)
    if node.op_type.endswith("Conv"):
        return True
    made = graph.producer(node.input[1])
    restored = made is not None and made.op_type == "DequantizeLinear" and graph.is_constant(made.input[0])
    return restored or graph.is_constant(node.input[1])
