"""`bench` of a bundle, on this machine: nothing is needed but the bundle."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgeproof_configs.errors import MissingPackageError
from edgeproof_deploy.bundle import tampered
from edgeproof_deploy.runtime.errors import BundleError, UnavailableError
from edgeproof_deploy.runtime.predictor import Predictor

BATCHES = (1, 8)
SECONDS = 1.0
WARMUP_SECONDS = 0.25


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


def _open(path: Path) -> Predictor:
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
