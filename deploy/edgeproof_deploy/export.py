"""From a trained student to one self-contained ONNX file, compared with the student before it is kept."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import nn

from edgeproof_compress.integers import IntegerStudent
from edgeproof_configs import __version__
from edgeproof_configs.errors import EdgeproofError, GateError
from edgeproof_configs.files import write_bytes
from edgeproof_deploy.numerics import cosines
from edgeproof_deploy.onnx_passes import fold_pads
from edgeproof_deploy.qdq_passes import Target, fit_to_engine
from edgeproof_deploy.runtime.session import OnnxSession
from edgeproof_train.student import Student

Exportable = Student | IntegerStudent

LARGEST_WEIGHTS_BYTES = 2_000_000_000
COSINE_LIMIT = 0.99999
RANGE_LIMIT = 1e-3
INTEGER_COSINE_LIMIT = 0.99
"""Of a file in INT8, where a value in the middle of two levels may fall to either side. What is worse is no
rounding any more; how near it is on real images is for `verify` to judge."""
BATCHES = (1, 2, 5)
BATCHES_OF_VIEWS = ((1, 1), (1, 4), (2, 2), (5, 3))
"""Objects and views of each in the comparisons of a student of views, both of which are free."""
TRACED = (2, 4)
"""Objects and views of the example that is traced: numbers of which no network could take one for a rule."""
IR_VERSION = 10
"""The newest that TensorRT 10.3 reads."""


@dataclass(frozen=True)
class ExportResult:
    """What was written, and how far it is from the student in PyTorch.

    Attributes:
        size_bytes: of the file.
        nodes: how many operators the graph has.
        cosine_min: worst cosine between an embedding in PyTorch and in ONNX Runtime, over all batch sizes.
        max_abs: largest absolute difference of one number of an embedding.
    """

    size_bytes: int
    nodes: int
    cosine_min: float
    max_abs: float

    def to_dict(self) -> dict[str, float]:
        """Return plain data."""
        return asdict(self)


class _Embedding(nn.Module):
    """A student as the exporter wants it: one tensor in, one tensor out."""

    def __init__(self, student: Exportable):
        super().__init__()
        self.student = student

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        return self.student(given).embedding


def export_onnx(
    student: Exportable,
    path: Path,
    *,
    opset: int = 18,
    metadata: Mapping[str, str] | None = None,
    images: np.ndarray | None = None,
    target: Target | None = None,
) -> ExportResult:
    """Write a student as ONNX and check the file.

    Input `image`: float32 (batch, 3, H, W), RGB, already normalised; of a student of views `views` (batch,
    views, 3, H, W). Output `embedding`: float32 (batch, D), not normalised. Only batch and views are dynamic.
    The file's `metadata_props` state this and the preprocessing.

    Args:
        student: stays as it is; a copy in fp32 on the CPU is exported.
        path: the file to write, atomically.
        opset: ONNX operator set, 18 to 20.
        metadata: further texts for `metadata_props`, such as the recipe's name and digests.
        images: float32 (N, 3, H, W), or (N, V, 3, H, W), real inputs for the comparison with PyTorch; noise
            if None.
        target: of a student with integer weights, the engine that the file is arranged for.

    Raises:
        EdgeproofError: the student cannot be exported, or the place cannot be written.
        GateError: the file in ONNX Runtime does not give what the student gives in PyTorch.
    """
    network = copy.deepcopy(student).cpu().float()
    network.eval().requires_grad_(False)
    _refuse_large(network, path)
    chunks = _comparison_chunks(images, network)
    expected = _eager(network, chunks, path)
    model = _trace(network, opset)
    clean_graph(model)
    if target is None:
        fold_pads(model)
    else:
        fit_to_engine(model, target)
    texts = {**_described(network), **(metadata or {})}
    for key in sorted(texts):
        model.metadata_props.add(key=key, value=texts[key])
    onnx.checker.check_model(model, full_check=True)
    data = model.SerializeToString(deterministic=True)
    cosine_min, max_abs = _compare(expected, data, chunks, path, target)
    write_bytes(path, data)
    return ExportResult(len(data), len(model.graph.node), cosine_min, max_abs)


def weights_digest(network: nn.Module) -> str:
    """Return the sha256 over names, shapes and values of all parameters and buffers."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        values = tensor.detach().cpu().contiguous().numpy()
        digest.update(f"{name} {values.dtype} {values.shape}\n".encode())
        digest.update(values.tobytes())
    return digest.hexdigest()


def _refuse_large(network: nn.Module, path: Path) -> None:
    size = sum(tensor.numel() * tensor.element_size() for tensor in network.state_dict().values())
    if size > LARGEST_WEIGHTS_BYTES:
        raise EdgeproofError(
            f"the student has {size / 1e9:.1f} GB of weights, one ONNX file holds at most 2 GB",
            where=path,
            fix="choose a smaller student",
        )


def _trace(network: Exportable, opset: int) -> onnx.ModelProto:
    sides = (3, network.preprocess.image_size, network.preprocess.image_size)
    free = ("batch", "views") if network.input_name == "views" else ("batch",)
    example = torch.zeros(*TRACED[: len(free)], *sides)
    dynamic = {axis: torch.export.Dim(name, min=1) for axis, name in enumerate(free)}
    try:
        program = torch.onnx.export(
            _Embedding(network).eval(),
            (example,),
            dynamo=True,
            opset_version=opset,
            input_names=[network.input_name],
            output_names=["embedding"],
            dynamic_shapes={"given": dynamic},
            external_data=False,
            verbose=False,
        )
    except torch.onnx.OnnxExporterError as error:
        reason = (str(error.__cause__ or error).strip().splitlines() or ["no reason given"])[0]
        raise EdgeproofError(
            f"the student cannot be exported to ONNX: {reason[:300]}",
            where=type(network).__name__,
            fix="choose another student (--debug shows the exporter's own report)",
        ) from error
    assert program is not None
    return program.model_proto


def clean_graph(model: onnx.ModelProto) -> None:
    """Remove what the exporter notes for its own debugging: it holds file paths of this machine."""
    graph = model.graph
    noted = (*graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer)
    for part in (model, graph, *noted):
        part.ClearField("doc_string")
        part.ClearField("metadata_props")
    model.ir_version = min(model.ir_version, IR_VERSION)


def _described(student: Exportable) -> dict[str, str]:
    preprocess = student.preprocess
    side = preprocess.image_size
    free = "batch, views" if student.input_name == "views" else "batch"
    return {
        "edgeproof_version": __version__,
        "input": f"{student.input_name}: float32 ({free}, 3, {side}, {side}), RGB, normalised outside the"
        f" model: (pixel / 255 - mean) / std with mean {preprocess.mean} and std {preprocess.std}",
        "input_normalisation": "external",
        "output": f"embedding: float32 (batch, {student.embedding_dim}), not normalised",
        "embedding_normalised": "false",
        "preprocess": json.dumps(preprocess.to_dict()),
        "weights_sha256": weights_digest(student),
    }


def _comparison_chunks(images: np.ndarray | None, network: Exportable) -> list[np.ndarray]:
    """Return the inputs, cut into batches of every size in `BATCHES`, or in `BATCHES_OF_VIEWS`."""
    side = network.preprocess.image_size
    shape = (3, side, side)
    of_views = network.input_name == "views"
    if of_views:
        shape = (max(views for _, views in BATCHES_OF_VIEWS) if images is None else images.shape[1], *shape)
    if images is None:
        images = np.random.default_rng(0).standard_normal((max(BATCHES), *shape)).astype(np.float32)
    if images.dtype != np.float32 or images.shape[1:] != shape or not len(images):
        raise ValueError(f"expected float32 images (N, {shape}), got {images.dtype} {images.shape}")
    inputs = np.resize(images, (max(len(images), max(BATCHES)), *shape))
    if of_views:
        cut = [(batch, np.s_[:, :views]) for batch, views in BATCHES_OF_VIEWS]
    else:
        cut = [(batch, np.s_[:]) for batch in BATCHES]
    return [inputs[i : i + batch][part] for batch, part in cut for i in range(0, len(inputs), batch)]


def _eager(network: Exportable, chunks: list[np.ndarray], path: Path) -> np.ndarray:
    with torch.inference_mode():
        outputs = np.concatenate([network(torch.from_numpy(chunk)).embedding.numpy() for chunk in chunks])
    if not np.isfinite(outputs).all():
        raise EdgeproofError("the student gives NaN or infinity: it was not exported", where=path)
    return outputs


def _compare(
    expected: np.ndarray, data: bytes, chunks: list[np.ndarray], path: Path, target: Target | None
) -> tuple[float, float]:
    """Return worst cosine and largest difference between PyTorch and ONNX Runtime.

    A file for another engine is run operator by operator as it stands: ONNX Runtime's own kernels for it say
    nothing about that engine.
    """
    exact = target is None
    session = OnnxSession(
        data, threads=torch.get_num_threads(), name=path.name, optimise=target != "tensorrt"
    )
    got = np.concatenate([session.run({session.input_name: chunk})["embedding"] for chunk in chunks])
    session.close()
    worst = float(cosines(expected, got).min())
    largest = float(np.abs(expected - got).max())
    nearest = COSINE_LIMIT if exact else INTEGER_COSINE_LIMIT
    limit = (RANGE_LIMIT if exact else 1.0) * float(np.ptp(expected))
    if not (worst >= nearest and largest <= limit):
        raise GateError(
            f"the exported model differs from the student in PyTorch: cosine {worst:.6f}"
            f" (limit {nearest}), largest difference {largest:.2g} (limit {limit:.2g})",
            where=path,
            fix="nothing was written; try another deploy.opset or another student",
        )
    return worst, largest
