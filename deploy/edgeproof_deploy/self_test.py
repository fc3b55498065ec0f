"""Writing the self-test of a bundle: a few images, and what every model gave for them where it was made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image
from safetensors.numpy import save

from edgeproof_configs.files import write_bytes, write_json
from edgeproof_configs.stage import StageContext
from edgeproof_data.objects import ObjectSet
from edgeproof_data.sets import ImageSet
from edgeproof_deploy.engine import open_onnx
from edgeproof_deploy.forms import forms_of, onnx_files
from edgeproof_deploy.runtime.model_interface import Session
from edgeproof_deploy.runtime.preprocess import Preprocess, open_image
from edgeproof_deploy.runtime.self_test import (
    INDEX_FILE,
    OUTPUTS_FILE,
    REFERENCE,
    SCHEMA_VERSION,
    pixels_digest,
)
from edgeproof_deploy.torch_session import TorchSession
from edgeproof_train.student import Student

LARGEST_SIDE = 224
MOST_VIEWS = 4
"""Of an object: so that a few photos are those of more than one."""
LIMITS = {"fp32": 0.9999, "fp16": 0.999, "int8": 0.99}
"""Smallest cosine to the stored embedding by precision: processors round, and add integers, differently."""
EDGE_LIMITS = {"fp32": 0.9999, "fp16": 0.99}
"""The same of edge images; INT8, whose ranges were taken from photos, promises nothing for them."""


def write_self_test(
    folder: Path,
    photos: Sequence[Path | Sequence[Path]],
    preprocess: Preprocess,
    reference: Session,
    models: Mapping[str, tuple[Session, str]],
) -> list[Path]:
    """Write images, their pixels' digests and the embeddings of every model.

    Of a photo only the part that the network sees is kept, at most 224 pixels wide, as PNG, which every
    machine decodes to the same bits.

    Args:
        folder: where to write; becomes `self_test/` of the bundle.
        photos: real images; or objects, each the files of its views.
        preprocess: of the student.
        reference: the fp32 student in PyTorch.
        models: by the name of the ONNX file: a session that runs it, and its precision.

    Returns:
        The files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    of_views = reference.input_name == "views"
    items = [kept(photo, folder, f"{i:02d}", preprocess) for i, photo in enumerate(photos)]
    edges = [(file,) for file in small_edge_images(folder)]
    pixels = [np.stack([preprocess.pixels(open_image(file)) for file in item]) for item in (*items, *edges)]
    inputs = [preprocess.normalise(seen) if of_views else preprocess.normalise(seen)[0] for seen in pixels]
    sessions = {REFERENCE: reference, **{name: session for name, (session, _) in models.items()}}
    outputs = {name: run_alone(session, inputs) for name, session in sessions.items()}
    listed = []
    for item, seen in zip((*items, *edges), pixels, strict=True):
        names = [f"{PurePosixPath(INDEX_FILE).parent}/{file.name}" for file in item]
        entry = {"file": names[0], "pixels_sha256": pixels_digest(seen), "edge": item in edges}
        listed.append(entry | ({"views": names} if of_views else {}))
    files = [file for item in (*items, *edges) for file in item]
    precisions = {name: precision for name, (_, precision) in models.items()}
    index, arrays = (folder / PurePosixPath(name).name for name in (INDEX_FILE, OUTPUTS_FILE))
    write_bytes(arrays, save(outputs))
    write_json(index, {"schema_version": SCHEMA_VERSION, "images": listed, **limits_of(precisions)})
    return [*files, arrays, index]


def limits_of(precisions: Mapping[str, str]) -> dict[str, dict[str, float]]:
    """Return how near each model must come to what it gave, by the precisions of the models."""
    promised = {name: precision for name, precision in precisions.items() if precision in EDGE_LIMITS}
    return {
        "limits": {name: LIMITS[precision] for name, precision in precisions.items()},
        "edge_limits": {name: EDGE_LIMITS[precision] for name, precision in promised.items()},
    }


def self_test_of_run(context: StageContext, images: ImageSet, folder: Path) -> list[Path]:
    """Write the self-test of a run's student and all its ONNX files.

    Args:
        context: of the run; `deploy.self_test_images` says how many photos it takes, of objects all their
            views together.
        images: the test set; of it evenly spread ones are taken.
        folder: where to write.
    """
    photos = chosen_photos(images, context.recipe.deploy.self_test_images)
    student = Student.load(context.run.stage("train"))
    exported = context.run.stage("export")
    engines: list[str] = list(context.recipe.deploy.engines)
    models: dict[str, tuple[Session, str]] = {}
    try:
        for form in forms_of(context.recipe, context.run):
            for name in onnx_files(form, engines):
                models[name] = open_onnx(exported / name), form.precision
        return write_self_test(folder, photos, student.preprocess, TorchSession(student), models)
    finally:
        for session, _ in models.values():
            session.close()


def chosen_photos(images: ImageSet, count: int) -> list[Path | Sequence[Path]]:
    """Return the files of so many photos, evenly spread; of objects up to `MOST_VIEWS` views of each."""
    if not isinstance(images, ObjectSet):
        chosen = np.linspace(0, len(images) - 1, min(count, len(images))).astype(int)
        return [images.file(int(i)) for i in chosen]
    if not count:
        return []
    views = min(count, images.view_count, MOST_VIEWS)
    chosen = np.linspace(0, len(images) - 1, min(count // views, len(images))).astype(int)
    return [[images.root / view for view in images.showing(views).shown_views(int(i))] for i in chosen]


def run_alone(session: Session, inputs: Sequence[np.ndarray]) -> np.ndarray:
    """Return the embedding of each image or object alone, float32 (N, D)."""
    rows = [session.run({session.input_name: image[None]})["embedding"] for image in inputs]
    return np.concatenate(rows).astype(np.float32)


def kept(photo: Path | Sequence[Path], folder: Path, name: str, preprocess: Preprocess) -> tuple[Path, ...]:
    """Write a photo, or each view of an object, and return the files."""
    if isinstance(photo, Path):
        return (kept_photo(photo, folder / f"{name}.png", preprocess),)
    return tuple(kept_photo(view, folder / f"{name}_{n:02d}.png", preprocess) for n, view in enumerate(photo))


def kept_photo(photo: Path, target: Path, preprocess: Preprocess) -> Path:
    """Write what the network sees of a photo as PNG."""
    seen = Image.fromarray(preprocess.pixels(open_image(photo)))
    side = min(seen.width, LARGEST_SIDE)
    seen.resize((side, side), Image.Resampling.BICUBIC).save(target)
    return target


def small_edge_images(folder: Path) -> list[Path]:
    """Write hard images of a few kB: black, white, grey, turned by EXIF, one pixel, transparent, 16-bit."""
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 256, (24, 32), dtype=np.uint8)
    turned = Image.Exif()
    turned[0x0112] = 6
    made: dict[str, tuple[Image.Image, dict[str, Any]]] = {
        "black.png": (Image.new("RGB", (80, 60), (0, 0, 0)), {}),
        "white.png": (Image.new("RGB", (60, 80), (255, 255, 255)), {}),
        "grey.png": (Image.fromarray(grey), {}),
        "turned.png": (Image.fromarray(grey).convert("RGB"), {"exif": turned.tobytes()}),
        "tiny.png": (Image.new("RGB", (1, 1), (200, 30, 90)), {}),
        "transparent.png": (Image.fromarray(rng.integers(0, 256, (24, 30, 4), dtype=np.uint8)), {}),
        "sixteen_bit.png": (Image.fromarray(rng.integers(0, 65536, (24, 30), dtype=np.uint16)), {}),
    }
    for name, (image, options) in made.items():
        image.save(folder / name, **options)
    return [folder / name for name in made]
