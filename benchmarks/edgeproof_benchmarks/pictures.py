"""Images to measure on: a folder of one's own, or made-up photographs of about the size of real ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from edgeproof_data.folders import list_images
from edgeproof_data.sets import ImageSet, unlabelled

SIZE = (240, 180)


def image_set(folder: Path | None, scratch: Path, count: int) -> ImageSet:
    """Return the images of a folder, or `count` made-up ones written to `scratch`.

    The made-up ones are blobs of colour with some grain, 240 x 180 pixels, JPEG quality 90.
    """
    if folder is not None:
        return unlabelled(folder, list_images(folder))
    scratch.mkdir(parents=True)
    random = np.random.default_rng(0)
    for index in range(count):
        made_up(random).save(scratch / f"{index:06d}.jpg", quality=90)
    return unlabelled(scratch, list_images(scratch))


def made_up(random: np.random.Generator) -> Image.Image:
    """Return blurred blobs of colour with grain over them."""
    coarse = Image.fromarray(random.integers(0, 255, (12, 16, 3), dtype=np.uint8)).resize(SIZE)
    grain = random.normal(0, 6, (SIZE[1], SIZE[0], 1))
    return Image.fromarray(np.clip(np.asarray(coarse) + grain, 0, 255).astype(np.uint8))
