"""`verify` and `bench` of a bundle, on this machine: nothing is needed but the bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from edgeproof_configs.errors import MissingPackageError
from edgeproof_deploy.bundle import read_bundle, tampered, verify_bundle
from edgeproof_deploy.runtime.errors import BundleError, UnavailableError
from edgeproof_deploy.runtime.predictor import Predictor

BATCHES = (1, 8)
SECONDS = 1.0
WARMUP_SECONDS = 0.25


def verify(path: Path) -> int:
    """Compare every file with the manifest, load the model and run it; return 0.

    Raises:
        EdgeproofError: a file is missing or was changed, or the model gives what no embedding can be.
    """
    count = verify_bundle(path)
    print(f"{count} files are those of the manifest, by size and sha256")
    predictor = _open(path)
    side = predictor.preprocess.image_size
    try:
        predictor.embed_image(Image.fromarray(_noise(1, side)[0]), "an image of noise")
    except BundleError as error:
        raise tampered(error, path) from error
    print(f"the model loads and runs with {', '.join(predictor.session.providers)}")
    print(f"when it was made: {read_bundle(path).manifest.get('verdict', 'no verdict')}")
    return 0


def bench(path: Path) -> int:
    """Measure the model's latency on this machine, print a line for each batch size, and return 0."""
    from edgeproof_benchmarks.latency import measure
    from edgeproof_benchmarks.phases import images_per_second

    predictor = _open(path)
    print(f"onnxruntime, {', '.join(predictor.session.providers)}, {SECONDS:g} s for each batch size")
    print(f"{'batch':>5}  {'p50 ms':>8}  {'p90 ms':>8}  {'p99 ms':>8}  {'n':>6}  {'images/s':>8}")
    for batch in BATCHES:
        pixels = predictor.preprocess.normalise(_noise(batch, predictor.preprocess.image_size))
        inputs = {"image": pixels}
        found = measure(
            lambda inputs=inputs: predictor.session.run(inputs),
            seconds=SECONDS,
            warmup_seconds=WARMUP_SECONDS,
        )
        times = "  ".join(f"{_milliseconds(value):>8}" for value in (found.p50, found.p90, found.p99))
        print(f"{batch:>5}  {times}  {found.n:>6}  {images_per_second(found, batch):>8.1f}")
    return 0


def _open(path: Path) -> Any:
    try:
        return Predictor.open(path)
    except BundleError as error:
        raise tampered(error, path) from error
    except UnavailableError as error:
        raise MissingPackageError(str(error), fix="see `edgeproof ls engines`") from error


def _noise(count: int, side: int) -> np.ndarray:
    """Return images of noise, uint8 (N, side, side, 3); they take as long as photos."""
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def _milliseconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
