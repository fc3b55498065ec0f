"""Small pictures on disk, and a small disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

MakeImages = Callable[..., Path]
DISK_BYTES = 1 << 20


@pytest.fixture
def make_images(tmp_path: Path) -> MakeImages:
    """Return a function that writes pictures, each different, below a folder and returns the folder."""

    def make(*paths: str, size: tuple[int, int] = (24, 20), root: Path | None = None) -> Path:
        root = root or tmp_path / "photos"
        for path in paths:
            file = root / path
            file.parent.mkdir(parents=True, exist_ok=True)
            seed = np.frombuffer(path.encode(), np.uint8)
            coarse = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
            image = Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)
            image.save(file)
        return root

    return make


@pytest.fixture
def small_disk(make_disk: Callable[[str], Path]) -> Path:
    """Return a disk with room for `DISK_BYTES`."""
    return make_disk(str(DISK_BYTES))
