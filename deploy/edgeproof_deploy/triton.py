"""A model repository for NVIDIA's Triton Inference Server: `NAME/config.pbtxt`, `NAME/1/model.onnx|plan`.

An ONNX model gets its head built in, so that Triton gives probabilities with labels; a plan gives embeddings,
and the head lies beside it. Format: Triton's documentation, "Model Configuration". It has been checked as
text and the ONNX file in ONNX Runtime; no Triton server has been run here.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import TensorProto, helper

from edgeproof_configs.errors import UsageError
from edgeproof_configs.files import write_bytes, write_text
from edgeproof_deploy.bundle import replaced_folder
from edgeproof_deploy.head_graph import HeadGraph
from edgeproof_deploy.runtime.bundle import ENGINES_FOLDER, Bundle
from edgeproof_deploy.runtime.head import HEAD_FILE, LABELS_FILE, Head, read_head
from edgeproof_deploy.runtime.preprocess import Preprocess
from edgeproof_deploy.runtime.session import chosen_model

PREPROCESS_FILE = "preprocess.json"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class TritonModel:
    """What a `config.pbtxt` says.

    Attributes:
        name: of the model and its folder.
        platform: `onnxruntime_onnx` or `tensorrt_plan`.
        max_batch: images that Triton may put together.
        side: of the input in pixels.
        dim: numbers of an embedding.
        classes: how many labels; 0 where the model gives embeddings alone.
        of_views: whether it takes any number of views of an object, and not single images.
    """

    name: str
    platform: str
    max_batch: int
    side: int
    dim: int
    classes: int
    of_views: bool = False

    def config(self) -> str:
        """Return the file in protobuf's text format."""
        outputs = [_tensor("embedding", (self.dim,))]
        if self.classes:
            outputs.append(_tensor("probabilities", (self.classes,), LABELS_FILE))
        joined = ",\n".join(outputs)
        # Requests are put together where they have as many views.
        name, dims = ("views", (-1,)) if self.of_views else ("image", ())
        return (
            f'name: "{self.name}"\n'
            f'platform: "{self.platform}"\n'
            f"max_batch_size: {self.max_batch}\n"
            f"input [\n{_tensor(name, (*dims, 3, self.side, self.side))}\n]\n"
            f"output [\n{joined}\n]\n"
            "dynamic_batching {\n}\n"
        )


def write_triton(
    bundle: Bundle, folder: Path, *, model: str | None, max_batch: int, name: str | None
) -> list[Path]:
    """Write one model of a bundle into a model repository and return its files.

    Args:
        bundle: its files are compared with its manifest as they are read.
        folder: the repository; the model's own folder in it is replaced.
        model: an ONNX file of the bundle, or a plan of TensorRT, `engines/NAME.engine`; the ONNX file that
            its manifest recommends if None.
        max_batch: images that Triton may put together.
        name: of the model; the bundle's if None.

    Raises:
        UsageError: the name is none, the plan is of TensorRT-RTX or takes fewer images, or the head cannot be
            built into an ONNX file.
        BundleError: a file is missing or was changed.
    """
    called = name or str(bundle.manifest.get("name", "model"))
    if not NAME.fullmatch(called):
        raise UsageError(f"'{called}' cannot be the name of a model", fix="letters, digits, '.', '_' and '-'")
    head, preprocess = read_head(bundle), Preprocess.from_dict(bundle.read_json(PREPROCESS_FILE))
    is_plan = model is not None and model.startswith(f"{ENGINES_FOLDER}/")
    if is_plan:
        assert model is not None
        data, file, platform = _plan(bundle, model, max_batch), "model.plan", "tensorrt_plan"
    else:
        data = with_head(onnx.load_from_string(bundle.read(chosen_model(bundle, model))), head)
        file, platform = "model.onnx", "onnxruntime_onnx"
    classes = 0 if is_plan else len(head.labels)
    of_views = preprocess.views is not None
    described = TritonModel(called, platform, max_batch, preprocess.image_size, head.dim, classes, of_views)
    place = folder / called
    with replaced_folder(place) as building:
        (building / "1").mkdir()
        write_bytes(building / "1" / file, data)
        write_text(building / "config.pbtxt", described.config())
        for beside in (LABELS_FILE, PREPROCESS_FILE, HEAD_FILE):
            write_bytes(building / beside, bundle.read(beside))
    return sorted(one for one in place.rglob("*") if one.is_file())


def with_head(model: onnx.ModelProto, head: Head) -> bytes:
    """Return a model that gives `probabilities` (batch, K) beside `embedding`: the head's softmax.

    Raises:
        UsageError: the head cannot be a part of a graph.
    """
    graph = model.graph
    logits = HeadGraph(graph).logits(head)
    graph.node.append(helper.make_node("Softmax", [logits], ["probabilities"], axis=-1))
    batch = graph.output[0].type.tensor_type.shape.dim[0].dim_param or "batch"
    shape = [batch, len(head.labels)]
    graph.output.append(helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, shape))
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString(deterministic=True)


def _plan(bundle: Bundle, name: str, max_batch: int) -> bytes:
    sidecar = json.loads(bundle.read(str(Path(name).with_suffix(".json"))))
    if sidecar.get("engine") != "tensorrt":
        raise UsageError(
            "Triton runs plans of TensorRT, and this one is of TensorRT-RTX",
            where=name,
            fix="leave --model away for ONNX Runtime, or build with deploy.engines: [tensorrt]",
        )
    largest = max(sidecar.get("settings", {}).get("batch", [max_batch]))
    if largest < max_batch:
        raise UsageError(
            f"this plan takes {largest} images at most, not {max_batch}",
            where=name,
            fix=f"--max-batch {largest}",
        )
    return bundle.read(name)


def _tensor(name: str, dims: tuple[int, ...], labels: str = "") -> str:
    lines = [f'    name: "{name}"', "    data_type: TYPE_FP32", f"    dims: [ {', '.join(map(str, dims))} ]"]
    if labels:
        lines.append(f'    label_filename: "{labels}"')
    return "  {\n" + "\n".join(lines) + "\n  }"
