"""A text tower of one table: a text's embedding is the sum of its tokens' rows. No exporter is needed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper

MERGES = ("r e", "re d</w>", "b l", "bl u", "blu e</w>")
LENGTH, WIDTH = 10, 16
TOKENS = 512 + len(MERGES) + 2


def table() -> np.ndarray:
    """Return the row of each token, float32 (tokens, 16); padding counts nothing."""
    rows = np.random.default_rng(11).standard_normal((TOKENS, WIDTH)).astype(np.float32)
    rows[0] = 0
    return rows


def encoder_bytes(rows: np.ndarray | None = None, length: int = LENGTH) -> bytes:
    """Return the tower as ONNX."""
    rows = table() if rows is None else rows
    weights = [numpy_helper.from_array(rows, "rows"), numpy_helper.from_array(np.array([1]), "axes")]
    nodes = [
        helper.make_node("Gather", ["rows", "tokens"], ["found"]),
        helper.make_node("ReduceSum", ["found", "axes"], ["text_embedding"], keepdims=0),
    ]
    takes = helper.make_tensor_value_info("tokens", TensorProto.INT64, ["batch", length])
    gives = helper.make_tensor_value_info("text_embedding", TensorProto.FLOAT, ["batch", rows.shape[1]])
    graph = helper.make_graph(nodes, "tower", [takes], [gives], weights)
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10
    ).SerializeToString()


def write_text_tower(folder: Path, templates: tuple[str, ...] = ("{}",)) -> list[Path]:
    """Write model, settings and merges, and return them."""
    settings = {
        "cleaning": "open_clip",
        "context_length": LENGTH,
        "padding": 0,
        "templates": list(templates),
        "known": None,
    }
    files = [folder / name for name in ("encoder.onnx", "encoder.json", "merges.txt")]
    files[0].write_bytes(encoder_bytes())
    files[1].write_text(json.dumps(settings), encoding="utf-8")
    files[2].write_text("".join(f"{pair}\n" for pair in MERGES), encoding="utf-8")
    return files
