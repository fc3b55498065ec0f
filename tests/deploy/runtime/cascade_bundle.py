"""A bundle whose head is a cascade with a specialist, made without torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from safetensors.numpy import save_file
from tests.configs.small_bundle import write_model

from edgeproof_configs.files import write_json
from edgeproof_deploy.bundle import BundleParts, write_bundle
from edgeproof_deploy.runtime.cascade_head import CascadeHead
from edgeproof_deploy.runtime.cascade_step import Step
from edgeproof_deploy.runtime.linear_head import LinearHead
from edgeproof_deploy.runtime.preprocess import Preprocess

LABELS = ("cup", "jug", "pug", "poodle", "beagle")
DOGS = ("beagle", "pug", "poodle")
SIDE, DOG_SIDE = 16, 24


def small_cascade(width: int = 3, combine: str = "switch") -> CascadeHead:
    """Return a head that answers cups and jugs itself and asks a specialist about dogs."""
    rng = np.random.default_rng(3)
    rows = rng.normal(size=(5, width)).astype(np.float32)
    first = Step(np.arange(5), np.array([1, 1, 0, 0, 0]), head=LinearHead(LABELS, rows, None, 3.0))
    dogs = Step(np.array([2, 3, 4]), np.ones(3), specialist="dogs", columns=np.array([1, 2, 0]), classes=3)
    return CascadeHead(LABELS, (first, dogs), combine)  # pyright: ignore[reportArgumentType]


def write_head(head: CascadeHead, folder: Path) -> None:
    """Write the two files of a head."""
    said = head.described() | {"labels": str(len(head.labels))}
    save_file(head.arrays(), folder / "head.safetensors", said)
    (folder / "labels.txt").write_text("".join(f"{label}\n" for label in head.labels))


def make_cascade_bundle(folder: Path, head: CascadeHead | None = None) -> Path:
    """Write the bundle; its parts are left beside it."""
    parts = folder.with_name(f"{folder.name}-parts")
    parts.mkdir(parents=True)
    write_head(head or small_cascade(), parts)
    write_json(parts / "parity.json", {"schema_version": 1, "pairs": []})
    write_model(parts / "model.onnx", 2)
    write_model(parts / "dogs.onnx", 3, side=DOG_SIDE)
    write_json(parts / "dogs.json", Preprocess(DOG_SIDE, DOG_SIDE).to_dict())
    (parts / "dogs.txt").write_text("".join(f"{label}\n" for label in DOGS))
    files = {
        "dogs/model.onnx": "dogs.onnx",
        "dogs/preprocess.json": "dogs.json",
        "dogs/labels.txt": "dogs.txt",
    }
    described = BundleParts(
        "tiny",
        [parts / "model.onnx"],
        parts,
        Preprocess(SIDE, SIDE),
        parts / "parity.json",
        specialists={name: parts / file for name, file in files.items()},
        facts={"verdict": "Ship it."},
    )
    write_bundle(folder, described)
    return folder


def photos(count: int = 12) -> list[np.ndarray]:
    """Return smooth pictures, uint8 (H, W, 3)."""
    rng = np.random.default_rng(8)
    coarse = [Image.fromarray(rng.integers(0, 256, (3, 4, 3), dtype=np.uint8)) for _ in range(count)]
    return [np.asarray(image.resize((40, 30), Image.Resampling.BICUBIC)) for image in coarse]
