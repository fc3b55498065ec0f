"""Running a form of the student over image files, as the device does it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from edgeproof_configs.errors import DataError
from edgeproof_configs.progress import progress
from edgeproof_deploy.numerics import cosines
from edgeproof_deploy.runtime.preprocess import ImageError, Preprocess, open_image
from edgeproof_deploy.runtime.session import Session


def embed_files(
    session: Session, preprocess: Preprocess, files: Sequence[Path], *, batch_size: int, label: str
) -> np.ndarray:
    """Return the embeddings (N, D) of image files, float32, not normalised, in their order.

    Args:
        session: takes `image`, gives `embedding`.
        preprocess: of the model.
        files: at least one image.
        batch_size: images a run; the last batch may be smaller.
        label: what to show beside the progress.

    Raises:
        DataError: an image cannot be read.
    """
    rows = []
    with progress(label, len(files), "images") as shown:
        for start in range(0, len(files), batch_size):
            batch = files[start : start + batch_size]
            pixels = np.stack([preprocess.pixels(read(file)) for file in batch])
            rows.append(session.run({"image": preprocess.normalise(pixels)})["embedding"])
            shown.advance(len(batch))
    return np.concatenate(rows)


def read(file: Path) -> Image.Image:
    """Return an image as RGB, or raise an error of this program."""
    try:
        return open_image(file)
    except ImageError as error:
        raise DataError(f"an image cannot be read: {error.reason}", where=file) from error


def batch_cosine(session: Session, inputs: np.ndarray, batches: Sequence[int]) -> float:
    """Return the smallest cosine between an image's embedding alone and in a batch.

    Args:
        session: takes `image`, gives `embedding`.
        inputs: (N, 3, H, W) float32, normalised.
        batches: batch sizes; one that does not divide N leaves a smaller last batch, which is wanted.
    """
    alone = np.concatenate([session.run({"image": one[None]})["embedding"] for one in inputs])
    worst = 1.0
    for batch in batches:
        chunks = [inputs[start : start + batch] for start in range(0, len(inputs), batch)]
        together = np.concatenate([session.run({"image": chunk})["embedding"] for chunk in chunks])
        worst = float(np.minimum(worst, cosines(alone, together).min()))
    return worst
