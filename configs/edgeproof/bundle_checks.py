"""`verify` of a bundle, on this machine: nothing is needed but the bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from edgeproof_configs.errors import MissingPackageError
from edgeproof_deploy.bundle import read_bundle, tampered, verify_bundle
from edgeproof_deploy.runtime.errors import BundleError, UnavailableError
from edgeproof_deploy.runtime.predictor import Predictor


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
