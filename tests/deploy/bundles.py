"""Bundles with a self-test, made without torch; and ones that are whole but no longer give what they gave."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from safetensors.numpy import save_file

from edgeproof_configs.files import write_json
from edgeproof_deploy.bundle import BundleParts, manifest_of, write_bundle
from edgeproof_deploy.runtime.bundle import MANIFEST
from edgeproof_deploy.runtime.preprocess import Preprocess
from edgeproof_deploy.runtime.session import OnnxSession

SIDE, WIDTH, CHANNELS = 16, 8, 16
LABELS = ("red ball", "blue cone", "ring")
PREPROCESS = Preprocess(SIDE, 20)


def write_model(path: Path, change: Callable[[np.ndarray], np.ndarray] | None = None) -> Path:
    """Write a network of two convolutions and a linear layer; `change` is applied to the second's weights."""
    rng = np.random.default_rng(4)
    weights = {
        "w1": rng.standard_normal((CHANNELS, 3, 3, 3)) * 0.3,
        "w2": rng.standard_normal((CHANNELS, CHANNELS, 3, 3)) * 0.2,
        "w3": rng.standard_normal((CHANNELS, WIDTH)),
    }
    if change is not None:
        weights["w2"] = change(weights["w2"])
    nodes = [
        helper.make_node("Conv", ["image", "w1"], ["a"], name="first", pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Relu", ["a"], ["b"], name="rectify"),
        helper.make_node("Conv", ["b", "w2"], ["c"], name="second", pads=[1, 1, 1, 1]),
        helper.make_node("GlobalAveragePool", ["c"], ["d"], name="pool"),
        helper.make_node("Flatten", ["d"], ["e"], name="flatten"),
        helper.make_node("MatMul", ["e", "w3"], ["embedding"], name="head"),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", WIDTH])],
        [numpy_helper.from_array(values.astype(np.float32), name) for name, values in weights.items()],
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return path


def write_photos(folder: Path, count: int = 6) -> list[Path]:
    """Write smooth photos, each in a folder that is called like a label."""
    rng, files = np.random.default_rng(5), []
    for number in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (4, 5, 3), dtype=np.uint8))
        files.append(folder / LABELS[number % 3].replace(" ", "_") / f"{number}.png")
        files[-1].parent.mkdir(parents=True, exist_ok=True)
        coarse.resize((40 + number, 48 - number), Image.Resampling.BICUBIC).save(files[-1])
    return files


def make_bundle(folder: Path, more: dict[str, Path] | None = None, *, self_test: bool = True) -> Path:
    """Write a bundle with a self-test of four photos.

    Args:
        folder: of the bundle; its parts are left beside it.
        more: further models, by their names in the bundle.
        self_test: whether it carries images.
    """
    from edgeproof_deploy.self_test import write_self_test

    parts = folder.with_name(f"{folder.name}-parts")
    models = {"model.onnx": write_model(parts / "model.onnx"), **(more or {})}
    rows = np.random.default_rng(9).standard_normal((3, WIDTH)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    save_file({"weight": rows, "logit_scale": np.array([20.0], np.float32)}, parts / "head.safetensors")
    (parts / "labels.txt").write_text("\n".join(LABELS) + "\n")
    write_json(parts / "parity.json", {"schema_version": 1, "pairs": []})
    sessions = {
        name: (OnnxSession(file, threads=1, name=name), precision_of(name)) for name, file in models.items()
    }
    photos = write_photos(parts / "photos")[:4]
    reference = sessions["model.onnx"][0]
    files = write_self_test(parts / "self_test", photos, PREPROCESS, reference, sessions) if self_test else []
    write_bundle(
        folder,
        BundleParts(
            name="tiny",
            models=list(models.values()),
            head=parts,
            preprocess=PREPROCESS,
            parity=parts / "parity.json",
            self_test=files,
            facts={
                "verdict": "Ship it.",
                "recipe": {"gates": {"cosine": 0.999}, "deploy": {"batch": [1, 3]}},
            },
        ),
    )
    return folder


def precision_of(name: str) -> str:
    """Return the precision that a model's name says."""
    return next((kind for kind in ("int8", "fp16") if kind in name), "fp32")


def make_damaged_bundle(
    folder: Path, change: Callable[[np.ndarray], np.ndarray] = lambda weights: weights[::-1]
) -> Path:
    """Write a bundle whose model was changed after its self-test was made; the manifest fits it."""
    make_bundle(folder)
    write_model(folder / "model.onnx", change)
    manifest = folder / MANIFEST
    manifest.unlink()
    shutil.rmtree(folder.with_name(f"{folder.name}-parts"))
    parts = BundleParts("tiny", [], folder, PREPROCESS, folder / "parity.json", facts={"verdict": "Ship it."})
    write_json(manifest, manifest_of(folder, parts))
    return folder
