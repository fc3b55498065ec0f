"""The self-test of a bundle: images that it carries, and what its models gave for them when it was made.

On the device the same images go through decoder, preprocessing and engine again. Pixels must be equal to the
bit; embeddings as near as the precision of the model allows.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeproof_deploy.runtime.bundle import Bundle
from edgeproof_deploy.runtime.errors import BundleError
from edgeproof_deploy.runtime.preprocess import ImageError, Preprocess, open_image
from edgeproof_deploy.runtime.safetensors import read_safetensors
from edgeproof_deploy.runtime.session import Session

FOLDER = "self_test"
INDEX_FILE, OUTPUTS_FILE = f"{FOLDER}/self_test.json", f"{FOLDER}/outputs.safetensors"
REFERENCE = "reference"
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class TestImage:
    """An image of the self-test, or an object with several views.

    Attributes:
        file: its name in the bundle; of an object that of its first view.
        pixels_sha256: of what preprocessing makes of it before it normalises, uint8 (H, W, 3), of an object
            (V, H, W, 3).
        edge: whether it is a hard image, such as a black one, and no photo.
        views: the files of an object's views; none of a single image.
    """

    __test__ = False

    file: str
    pixels_sha256: str
    edge: bool
    views: tuple[str, ...] = ()

    @property
    def files(self) -> tuple[str, ...]:
        """All files of it."""
        return self.views or (self.file,)


@dataclass(frozen=True)
class SelfTest:
    """What a bundle was made to give.

    Attributes:
        images: photos, or objects, first, then edge images.
        outputs: embeddings float32 (N, D) of `reference` (the fp32 student in PyTorch), and of each ONNX
            file that was exported, by its name, in ONNX Runtime; some may not be in the bundle.
        limits: by ONNX file: smallest cosine that a photo's embedding may have to the stored one.
        edge_limits: the same of edge images; a model that promises nothing for them is not in it.
    """

    images: tuple[TestImage, ...]
    outputs: dict[str, np.ndarray]
    limits: dict[str, float]
    edge_limits: dict[str, float]

    @property
    def photos(self) -> int:
        """How many of the images are photos, or objects."""
        return sum(not image.edge for image in self.images)


@dataclass(frozen=True)
class SelfTestResult:
    """How a model did.

    Attributes:
        model: the ONNX file.
        photos: how many photos, or objects, were run.
        cosine_min: smallest cosine of a photo's embedding to the stored one.
        reference_cosine_min: the same to the fp32 student in PyTorch.
        failures: what is wrong, in words; empty where all is well.
    """

    model: str
    photos: int
    cosine_min: float
    reference_cosine_min: float
    failures: tuple[str, ...]


def read_self_test(bundle: Bundle) -> SelfTest | None:
    """Read the self-test of a bundle; None if it carries none.

    Raises:
        BundleError: a part is missing, damaged, or does not fit the others.
    """
    if INDEX_FILE not in bundle.listed:
        return None
    plain = bundle.read_json(INDEX_FILE)
    if not isinstance(plain, dict) or plain.get("schema_version") != SCHEMA_VERSION:
        raise BundleError(INDEX_FILE, f"is not a self-test of schema version {SCHEMA_VERSION}")
    images = tuple(_images(bundle, plain.get("images")))
    limits, edge_limits = (_limits(plain.get(key), key) for key in ("limits", "edge_limits"))
    arrays, _ = read_safetensors(bundle.read(OUTPUTS_FILE), OUTPUTS_FILE)
    if set(arrays) != {REFERENCE, *limits} or not set(edge_limits) <= set(limits):
        raise BundleError(OUTPUTS_FILE, f"holds {', '.join(arrays)}, expected the models of {INDEX_FILE}")
    shapes = {array.shape for array in arrays.values()}
    if len(shapes) != 1 or next(iter(shapes))[:1] != (len(images),) or arrays[REFERENCE].ndim != 2:
        raise BundleError(OUTPUTS_FILE, f"does not hold {len(images)} embeddings of each model")
    if not all(array.dtype == np.float32 and np.isfinite(array).all() for array in arrays.values()):
        raise BundleError(OUTPUTS_FILE, "holds values that are no finite float32")
    return SelfTest(images, arrays, limits, edge_limits)


def _images(bundle: Bundle, plain: Any) -> Iterator[TestImage]:
    if not isinstance(plain, list) or not plain:
        raise BundleError(INDEX_FILE, "has no list of images")
    for entry in plain:
        kinds = {"file": str, "pixels_sha256": str, "edge": bool}
        if not isinstance(entry, dict) or not all(
            isinstance(entry.get(k), kind) for k, kind in kinds.items()
        ):
            raise BundleError(
                INDEX_FILE, f"has an image without file, pixels_sha256 or edge: {str(entry)[:80]}"
            )
        views = entry.get("views", [])
        if not isinstance(views, list) or not all(isinstance(view, str) for view in views):
            raise BundleError(INDEX_FILE, f"has views that are no list of files: {str(views)[:80]}")
        image = TestImage(*(entry[key] for key in kinds), views=tuple(views))
        missing = [name for name in (image.file, *views) if name not in bundle.listed]
        if missing:
            raise BundleError(INDEX_FILE, f"names {missing[0]!r}, which is not in the bundle")
        yield image


def _limits(plain: Any, key: str) -> dict[str, float]:
    if not isinstance(plain, dict):
        raise BundleError(INDEX_FILE, f"has no table of {key}")
    for name, value in plain.items():
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not math.isfinite(value):
            raise BundleError(INDEX_FILE, f"{key}: {name!r}: {str(value)[:40]} is no limit of a model")
    return {name: float(value) for name, value in plain.items()}


def self_test_inputs(
    bundle: Bundle, test: SelfTest, preprocess: Preprocess
) -> tuple[list[np.ndarray], list[str]]:
    """Return each image as the network's input, and the names of those that differ.

    Inputs are float32 (3, H, W); of objects (V, 3, H, W), which need not have equally many views.

    Raises:
        BundleError: an image cannot be read here, or the bundle is of views and its images are not.
    """
    inputs, differing = [], []
    for image in test.images:
        if bool(image.views) != (preprocess.views is not None):
            raise BundleError(INDEX_FILE, f"{image.file} is for a model of another input than the bundle's")
        pixels = np.stack([_pixels(bundle, name, preprocess) for name in image.files])
        if pixels_digest(pixels) != image.pixels_sha256:
            differing.append(image.file)
        views = preprocess.normalise(pixels)
        inputs.append(views if image.views else views[0])
    return inputs, differing


def _pixels(bundle: Bundle, name: str, preprocess: Preprocess) -> np.ndarray:
    try:
        return preprocess.pixels(open_image(bundle.read(name)))
    except ImageError as error:
        raise BundleError(name, f"cannot be read here: {error.reason}") from error


def alike(inputs: Sequence[np.ndarray]) -> np.ndarray:
    """Return those inputs that have as many views as the first one, as one batch."""
    return np.stack([one for one in inputs if one.shape == inputs[0].shape])


def pixels_digest(pixels: np.ndarray) -> str:
    """Return the sha256 of pixels, uint8 (..., H, W, 3)."""
    return hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest()


def run_self_test(bundle: Bundle, preprocess: Preprocess, session: Session, model: str) -> SelfTestResult:
    """Run the self-test of a model in an engine.

    Args:
        bundle: that the model is from.
        preprocess: of the bundle.
        session: the model, loaded.
        model: the ONNX file that the session runs, or was built from.

    Raises:
        BundleError: the bundle carries no self-test, or none of this model, or it is damaged.
    """
    test = read_self_test(bundle)
    if test is None:
        raise BundleError(INDEX_FILE, "is not in the bundle: it was made without a self-test")
    if model not in test.outputs or model == REFERENCE:
        raise BundleError(INDEX_FILE, f"has no outputs of {model}")
    inputs, differing = self_test_inputs(bundle, test, preprocess)
    found = np.concatenate([session.run({session.input_name: image[None]})["embedding"] for image in inputs])
    failures = [
        f"{name}: its pixels are not those that it had when the bundle was made" for name in differing
    ]
    if found.shape != test.outputs[model].shape:
        raise BundleError(model, f"gives embeddings {found.shape}, stored are {test.outputs[model].shape}")
    near = _cosines(test.outputs[model], found)
    for image, row, value in zip(test.images, found, near):
        limit = (test.edge_limits if image.edge else test.limits).get(model)
        if not np.isfinite(row).all():
            failures.append(f"{image.file}: {model} gives NaN or infinity")
        elif limit is not None and not value >= limit:
            failures.append(f"{image.file}: cosine to the stored embedding is {value:.6f}, limit {limit:g}")
    photos = test.photos
    to_reference = _cosines(test.outputs[REFERENCE], found)
    own, other = (float(values[:photos].min()) if photos else 1.0 for values in (near, to_reference))
    return SelfTestResult(model, photos, own, other, tuple(failures))


def _cosines(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    a, b = first.astype(np.float64), second.astype(np.float64)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    products = (a * b).sum(axis=1)
    same = (a == b).all(axis=1)
    return np.where(same, 1.0, np.divide(products, lengths, out=np.zeros_like(products), where=lengths > 0))
